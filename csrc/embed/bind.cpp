#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "core/bind_views.h"
#include "core/unlocked.h"
#include "embed/embed.h"

namespace longspan {
namespace {

EmbeddingTable table_of(const char* name, const std::optional<py::array>& table) {
    if (!table) return {};
    const bool is_bits = py::isinstance<py::array_t<uint16_t>>(*table);
    const bool is_float = table->dtype().kind() == 'f' && (table->itemsize() == 4 || table->itemsize() == 2);
    if (!is_bits && !is_float) {
        reject(name, " must be float32, float16 or the bits of bfloat16 as uint16, got ",
               std::string(py::str(table->dtype())));
    }
    const auto format = is_bits ? WeightFormat::bf16 : table->itemsize() == 4 ? WeightFormat::f32 : WeightFormat::f16;
    return {format, matrix_view<const uint8_t>(name, py::array(*table).view("uint8"))};
}

}  // namespace

void bind_embed(py::module_& module) {
    module.def(
        "embed",
        [](const py::array& words, const py::array& ids, const std::optional<py::array>& places,
           const std::optional<py::array>& positions, int64_t offset, const std::optional<py::array>& token_type,
           const py::array& out, const std::optional<py::array>& token_types, const std::optional<py::array>& types) {
            const EmbedArgs args{table_of("embed: words", words),
                                 vector_view<const int32_t>("embed: ids", ids),
                                 table_of("embed: places", places),
                                 vector_view<const int32_t>("embed: positions", positions),
                                 offset,
                                 vector_view<const float>("embed: token_type", token_type),
                                 matrix_view<const float>("embed: token_types", token_types),
                                 vector_view<const int32_t>("embed: types", types),
                                 matrix_view<float>("embed: out", out)};
            const Unlocked unlocked;
            embed(args);
        },
        py::arg("words"), py::arg("ids"), py::arg("places"), py::arg("positions"), py::arg("offset"),
        py::arg("token_type"), py::arg("out"), py::arg("token_types") = py::none(), py::arg("types") = py::none());
}

}  // namespace longspan
