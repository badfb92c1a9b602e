// SPDX-License-Identifier: Apache-2.0
#pragma once
// What was measured ahead: the kernels of the convolution that were fastest on a GPU, by sizes. Plain C++, so that it is tested
// without a GPU.
#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pcperc {

enum class ConvPass : int { kForward, kWeightGrad };        // the input gradient is a forward pass
enum class ConvDtype : int { kFloat16, kBfloat16, kTf32 };  // those that tensor cores multiply
constexpr std::array kPassNames = {"forward", "weight_grad"};
constexpr std::array kDtypeNames = {"float16", "bfloat16", "tf32"};

// What a choice is looked up by: the channels of a group, the rows of the output.
struct SelectionKey {
  ConvPass pass;
  ConvDtype dtype;
  int64_t in_width, out_width, taps, rows;

  bool is_layer_of(const SelectionKey& other) const { return layer() == other.layer(); }
  bool operator<(const SelectionKey& other) const {
    return is_layer_of(other) ? rows < other.rows : layer() < other.layer();
  }
  std::string describe() const {
    std::ostringstream words;
    words << kPassNames[static_cast<int>(pass)] << " " << kDtypeNames[static_cast<int>(dtype)] << ", " << rows << " rows, "
          << in_width << " -> " << out_width << ", " << taps << " taps";
    return words.str();
  }

 private:
  std::array<int64_t, 5> layer() const {  // all but the rows
    return {static_cast<int64_t>(pass), static_cast<int64_t>(dtype), in_width, out_width, taps};
  }
};

struct SelectionEntry {
  SelectionKey key;
  int kernel, blocks;
};

class SelectionTable {
 public:
  SelectionTable() = default;  // of a GPU that was not measured

  // `path` is named where something is wrong: two entries for the same sizes here.
  SelectionTable(std::vector<SelectionEntry> entries, std::string path) : path_(std::move(path)), entries_(std::move(entries)) {
    std::sort(entries_.begin(), entries_.end(), is_before);
    for (size_t i = 1; i < entries_.size(); ++i) {
      if (!is_before(entries_[i - 1], entries_[i])) throw std::runtime_error(path_ + ": two lines for " + entries_[i].key.describe());
    }
  }

  // The entry of the same layer whose rows are nearest by ratio, where that is at most two; else nullptr.
  const SelectionEntry* find(const SelectionKey& key) const {
    const auto above = std::lower_bound(entries_.begin(), entries_.end(), SelectionEntry{key, 0, 0}, is_before);
    const SelectionEntry* best = nullptr;
    if (above != entries_.end() && above->key.is_layer_of(key) && above->key.rows <= 2 * key.rows) best = &*above;
    if (above == entries_.begin()) return best;
    const SelectionEntry& below = *std::prev(above);
    const bool is_near = below.key.is_layer_of(key) && key.rows <= 2 * below.key.rows;
    if (is_near && (best == nullptr || below.key.rows * best->key.rows > key.rows * key.rows)) best = &below;
    return best;
  }

  // For an entry that its GPU cannot run.
  [[noreturn]] void refuse(const SelectionEntry& entry, const std::string& why) const {
    throw std::runtime_error(path_ + ": kernel " + std::to_string(entry.kernel) + " of " + entry.key.describe() + " " + why);
  }

 private:
  static bool is_before(const SelectionEntry& a, const SelectionEntry& b) { return a.key < b.key; }

  std::string path_;
  std::vector<SelectionEntry> entries_;  // sorted
};

// That of the current GPU, read when first asked for: sm_<capability>_<multiprocessors>.txt in the folder $PCPERC_SELECTION or else
// in ops/selection beside this library; empty where there is neither. Afterwards it costs a load of a pointer.
const SelectionTable& selection_table();

}  // namespace pcperc
