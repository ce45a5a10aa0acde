#include <pybind11/pybind11.h>

#include <optional>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "postings/postings.h"

namespace longspan {
namespace {

template <class T>
py::array_t<T> array_of(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

CsrRows csr_rows(const char* name, const py::array& offsets, const py::array& terms, const py::array& values) {
    return {vector_view<const int64_t>(name, offsets), vector_view<const int32_t>(name, terms),
            vector_view<const float>(name, values)};
}

// (block_docs, block_terms, terms, ends, peaks, docs, values, first_doc, first_term, first_entry)
PostingsView postings_view(const py::tuple& parts) {
    const auto array = [&](size_t i) { return parts[i].cast<py::array>(); };
    const auto number = [&](size_t i) { return parts[i].cast<int64_t>(); };
    return {vector_view<const int64_t>("postings: block_docs", array(0)),
            vector_view<const int64_t>("postings: block_terms", array(1)),
            vector_view<const int32_t>("postings: terms", array(2)),
            vector_view<const int64_t>("postings: ends", array(3)),
            vector_view<const float>("postings: peaks", array(4)),
            vector_view<const uint16_t>("postings: docs", array(5)),
            vector_view<const float>("postings: values", array(6)),
            number(7),
            number(8),
            number(9)};
}

}  // namespace

void bind_postings(py::module_& module) {
    module.def(
        "invert",
        [](const py::array& offsets, const py::array& terms, const py::array& values, int64_t dim) {
            const CsrRows rows = csr_rows("invert: rows", offsets, terms, values);
            PostingBlock block;
            {
                const Unlocked unlocked;
                block = invert(rows, dim);
            }
            return py::make_tuple(array_of(block.terms), array_of(block.ends), array_of(block.peaks),
                                  array_of(block.docs), array_of(block.values));
        },
        py::arg("offsets"), py::arg("terms"), py::arg("values"), py::arg("dim"));
    module.def(
        "posting_rows",
        [](const py::tuple& postings, int64_t block) {
            const PostingsView view = postings_view(postings);
            OwnedRows rows;
            {
                const Unlocked unlocked;
                rows = block_rows(view, block);
            }
            return py::make_tuple(array_of(rows.offsets), array_of(rows.terms), array_of(rows.values));
        },
        py::arg("postings"), py::arg("block"));
    module.def(
        "posting_lists",
        [](const py::tuple& postings, const py::array& terms) {
            const PostingsView view = postings_view(postings);
            const auto wanted = vector_view<const int32_t>("posting_lists: terms", terms);
            std::vector<int64_t> starts, stops;
            {
                const Unlocked unlocked;
                find_lists(view, wanted, starts, stops);
            }
            return py::make_tuple(array_of(starts), array_of(stops));
        },
        py::arg("postings"), py::arg("terms"));
    module.def(
        "postings_topk",
        [](const py::tuple& postings, const py::array& offsets, const py::array& terms, const py::array& values,
           const std::optional<py::array>& wanted, const std::optional<py::array>& ranks, const py::array& scores,
           const py::array& rows) {
            const PostingsView view = postings_view(postings);
            const CsrRows queries = csr_rows("postings_topk: queries", offsets, terms, values);
            const auto bits = vector_view<const uint8_t>("postings_topk: wanted", wanted);
            const auto order = vector_view<const int64_t>("postings_topk: ranks", ranks);
            const auto score_view = matrix_view<float>("postings_topk: scores", scores);
            const auto row_view = matrix_view<int64_t>("postings_topk: rows", rows);
            const Unlocked unlocked;
            postings_topk(view, queries, bits, order, score_view, row_view);
        },
        py::arg("postings"), py::arg("offsets"), py::arg("terms"), py::arg("values"), py::arg("wanted"),
        py::arg("ranks"), py::arg("scores"), py::arg("rows"));
}

}  // namespace longspan
