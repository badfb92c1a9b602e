// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reads the text file of a SelectionTable, which pcperc/benchmark/selection.py writes.
#include <filesystem>
#include <fstream>

#include "cuda/sparse_conv_selection.h"

namespace pcperc {

constexpr std::array kSelectionColumns = {"pass", "dtype", "rows", "in", "out", "taps", "kernel", "blocks", "ms"};

// One line of a file as words; every error names the file, the line and the column.
struct SelectionLine {
  const std::string& path;
  int number;
  std::vector<std::string> words = {};

  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(path + ":" + std::to_string(number) + ": " + what);
  }
  [[noreturn]] void refuse(size_t column, const std::string& form) const {
    fail(std::string(kSelectionColumns[column]) + " must be " + form + ", got " + words[column]);
  }

  template <class Names>
  int name_in(size_t column, const Names& names) const {
    std::string known;
    for (size_t i = 0; i < names.size(); ++i) {
      if (words[column] == names[i]) return static_cast<int>(i);
      known += (i == 0 ? "" : " or ") + std::string(names[i]);
    }
    refuse(column, known);
  }

  int number_in(size_t column, int low, int high) const {
    const std::string& word = words[column];
    const bool is_number = word.size() <= 10 && word.find_first_not_of("0123456789") == std::string::npos;
    const int64_t value = is_number ? std::stoll(word) : -1;
    if (value < low || value > high) refuse(column, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    return static_cast<int>(value);
  }
};

inline SelectionEntry read_selection_entry(const SelectionLine& line) {
  const auto pass = static_cast<ConvPass>(line.name_in(0, kPassNames));
  const auto dtype = static_cast<ConvDtype>(line.name_in(1, kDtypeNames));
  const auto size = [&](size_t column) { return line.number_in(column, 1, INT32_MAX); };
  const SelectionEntry entry{{pass, dtype, size(3), size(4), size(5), size(2)}, line.number_in(6, 0, 999), line.number_in(7, 0, 8)};
  if (!is_kernel(pass, dtype, entry.kernel)) line.refuse(6, "the number of a kernel of this pass and dtype");
  if (!takes_blocks(pass, entry.kernel, entry.blocks)) line.refuse(7, "a number of blocks that this kernel takes");
  return entry;
}

// The table of `gpu`. Throws std::runtime_error. The number in the title changes with the kernels' own numbers and kinds: what was
// measured before then no longer holds.
inline SelectionTable read_selection(std::istream& file, const std::string& path, const std::string& gpu) {
  const std::string title = "pcperc selection 1: " + gpu;
  std::string text;
  SelectionLine line{path, 1};
  if (!std::getline(file, text) || text != title) line.fail("must be \"" + title + "\", got \"" + text + "\"");
  bool has_columns = false;
  std::vector<SelectionEntry> entries;
  while (std::getline(file, text)) {
    std::istringstream stream(text);
    ++line.number;
    line.words.assign(std::istream_iterator<std::string>(stream), {});
    if (line.words.empty() || line.words[0][0] == '#') continue;
    if (line.words.size() != kSelectionColumns.size()) {
      line.fail("must be " + std::to_string(kSelectionColumns.size()) + " columns, got " + std::to_string(line.words.size()));
    }
    if (has_columns) {
      entries.push_back(read_selection_entry(line));
      continue;
    }
    for (size_t i = 0; i < line.words.size(); ++i) {
      if (line.words[i] != kSelectionColumns[i]) line.fail(std::string("column must be ") + kSelectionColumns[i] + ", got " + line.words[i]);
    }
    has_columns = true;
  }
  if (!has_columns) line.fail("the line that names the columns is missing");
  return SelectionTable(std::move(entries), path);
}

// The same from <gpu>.txt in the user's folder or else in the package's; an empty table where neither has it. `own` is "" where the
// user has none; one that is not there is an error, since its tables would be missed in silence.
inline SelectionTable load_selection(const std::string& gpu, const std::string& own, const std::string& package) {
  if (!own.empty() && !std::filesystem::is_directory(own)) throw std::runtime_error("PCPERC_SELECTION must be a folder, got " + own);
  for (const std::string& folder : {own, package}) {
    const std::string path = folder + "/" + gpu + ".txt";
    if (folder.empty() || !std::filesystem::exists(path)) continue;
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    return read_selection(file, path, gpu);
  }
  return {};
}

}  // namespace pcperc
