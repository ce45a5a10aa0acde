#include "embed/embed.h"

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"

namespace longspan {
namespace {

constexpr int64_t kValuesPerTask = 32 * 1024;  // about 10 us

void check_table(const char* name, const EmbeddingTable& table, int64_t dim) {
    const int64_t bytes = dim * bytes_of(table.format);
    if (table.bytes.cols == bytes) return;
    reject("embed: ", name, " must have ", dim, " columns, got ", table.bytes.cols / bytes_of(table.format));
}

void check(const EmbedArgs& args) {
    const int64_t rows = args.out.rows, dim = args.out.cols;
    const auto check_size = [](const char* name, int64_t size, int64_t expected) {
        if (size != expected) reject("embed: ", name, " must be (", expected, ",), got (", size, ",)");
    };
    check_table("words", args.words, dim);
    check_size("ids", args.ids.size, rows);
    if (args.token_type) check_size("token_type", args.token_type.size, dim);
    if (args.token_types.data != nullptr) {
        if (args.token_types.cols != dim) {
            reject("embed: token_types must have ", dim, " columns, got ", args.token_types.cols);
        }
        check_size("types", args.types.size, rows);
    }
    if (args.places.bytes.data == nullptr) return;
    check_table("places", args.places, dim);
    check_size("positions", args.positions.size, rows);
}

const std::byte* row_of(const char* what, const EmbeddingTable& table, int64_t row) {
    if (row < 0 || row >= table.bytes.rows) {
        reject("embed: ", what, " ", row, " is not in its table of ", table.bytes.rows, " rows");
    }
    return reinterpret_cast<const std::byte*>(table.bytes.row(row));
}

void add(const float* values, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] += values[i];
}

void embed_row(const EmbedArgs& args, int64_t row, float* place) {
    const int64_t dim = args.out.cols;
    float* out = args.out.row(row);
    load_weights(args.words.format, row_of("id", args.words, args.ids.data[row]), dim, out);
    if (args.places.bytes.data != nullptr) {
        const int64_t at = args.positions.data[row] + args.offset;
        load_weights(args.places.format, row_of("place", args.places, at), dim, place);
        add(place, dim, out);
    }
    if (args.token_type) add(args.token_type.data, dim, out);
    if (args.token_types.data == nullptr) return;
    const int64_t type = args.types.data[row];
    if (type < 0 || type >= args.token_types.rows) {
        reject("embed: token type ", type, " is not in its table of ", args.token_types.rows, " rows");
    }
    add(args.token_types.row(type), dim, out);
}

}  // namespace

void embed(const EmbedArgs& args) {
    check(args);
    const int64_t rows = args.out.rows, dim = args.out.cols;
    if (rows == 0 || dim == 0) return;
    const int64_t rows_per_task = std::max<int64_t>(1, kValuesPerTask / dim);
    parallel_for((rows + rows_per_task - 1) / rows_per_task, [&](int64_t task) {
        auto* place = static_cast<float*>(thread_scratch(dim * int64_t{sizeof(float)}));
        const int64_t end = std::min(rows, (task + 1) * rows_per_task);
        for (int64_t row = task * rows_per_task; row < end; ++row) embed_row(args, row, place);
    });
}

}  // namespace longspan
