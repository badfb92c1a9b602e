// SPDX-License-Identifier: Apache-2.0
// selection_probe GPU OWN_FOLDER PACKAGE_FOLDER: finds the table, then reads lines "pass dtype rows in out taps groups has_warpgroups
// fits_direct" and prints the kernel and its blocks for each. What is thrown goes to stdout too, behind "error: ".
#include <iostream>

#include "cuda/selection_file.h"

using namespace pcperc;

int main(int, char** words) {
  try {
    const SelectionTable table = load_selection(words[1], words[2], words[3]);
    std::string pass, dtype;
    ConvProblem problem;
    while (std::cin >> pass >> dtype >> problem.rows >> problem.in_width >> problem.out_width >> problem.taps >> problem.groups >>
           problem.has_warpgroups >> problem.fits_direct) {
      problem.dtype = static_cast<ConvDtype>(std::find(kDtypeNames.begin(), kDtypeNames.end(), dtype) - kDtypeNames.begin());
      if (pass == "forward") {
        const ConvChoice choice = choose_kernel(problem, table);
        std::cout << choice.kernel << " " << choice.splits << "\n";
      } else {
        const WeightGradChoice choice = choose_weight_grad(problem, table);
        std::cout << choice.tile << " " << choice.blocks << "\n";
      }
    }
  } catch (const std::exception& error) {
    std::cout << "error: " << error.what() << "\n";
  }
}
