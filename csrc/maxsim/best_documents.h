// BestDocuments: the k best documents of one query so far, whoever offers them in whatever order. For dispatch.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

namespace longspan {

struct ScoredDocument {
    float score;
    int64_t row;
};

// A total order: higher scores, then lower rows; NaN after everything.
inline bool is_better(const ScoredDocument& a, const ScoredDocument& b) {
    const bool is_a_nan = std::isnan(a.score), is_b_nan = std::isnan(b.score);
    if (is_a_nan != is_b_nan) return is_b_nan;
    if (!is_a_nan && a.score != b.score) return a.score > b.score;
    return a.row < b.row;
}

class BestDocuments {
public:
    // Scores of documents first_row, first_row + 1, ... Any thread may call this at any time: the order is total, so
    // the result is the same whoever comes first.
    void offer(const std::vector<float>& scores, int64_t first_row, int64_t k) {
        const std::lock_guard lock(mutex_);
        for (size_t i = 0; i < scores.size(); ++i) {
            const ScoredDocument candidate{scores[i], first_row + static_cast<int64_t>(i)};
            if (static_cast<int64_t>(heap_.size()) == k) {
                if (!is_better(candidate, heap_.front())) continue;
                std::pop_heap(heap_.begin(), heap_.end(), is_better);
                heap_.pop_back();
            }
            heap_.push_back(candidate);
            std::push_heap(heap_.begin(), heap_.end(), is_better);
        }
    }

    // Best first; nothing is kept.
    std::vector<ScoredDocument> take() {
        std::sort_heap(heap_.begin(), heap_.end(), is_better);
        return std::move(heap_);
    }

private:
    std::mutex mutex_;
    std::vector<ScoredDocument> heap_;  // the worst in front
};

}  // namespace longspan
