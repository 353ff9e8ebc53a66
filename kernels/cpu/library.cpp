// What Python reads from a library before it calls the kernels: how wide its registers are, and its table of fields.
#include <cstddef>

#include "network.h"
#include "simd.h"

namespace {

// A field of a structure, or a whole structure: its offset from the structure's beginning and its size, in bytes.
struct Field {
    const char* name;
    int64_t offset, size;
};

#define WHOLE(type) {#type, 0, sizeof(type)}
#define FIELD(type, name) {#type "." #name, offsetof(type, name), sizeof(type::name)}

const Field FIELDS[] = {
    WHOLE(Product), FIELD(Product, weight), FIELD(Product, scale), FIELD(Product, start),
    FIELD(Product, groups), FIELD(Product, n), FIELD(Product, k),

    WHOLE(Layer), FIELD(Layer, qkv), FIELD(Layer, out), FIELD(Layer, gate_up), FIELD(Layer, dense_down),
    FIELD(Layer, expert_down), FIELD(Layer, q_norm), FIELD(Layer, k_norm), FIELD(Layer, after_attention),
    FIELD(Layer, after_dense), FIELD(Layer, after_expert), FIELD(Layer, after_both), FIELD(Layer, scalars),
    FIELD(Layer, kind),

    WHOLE(Network), FIELD(Network, hidden), FIELD(Network, heads), FIELD(Network, head_dim), FIELD(Network, dense),
    FIELD(Network, expert), FIELD(Network, layers), FIELD(Network, threads), FIELD(Network, eps),
    FIELD(Network, softcap), FIELD(Network, layer), FIELD(Network, norm), FIELD(Network, embeddings),
    FIELD(Network, condition_gate_up), FIELD(Network, condition_down), FIELD(Network, head),

    WHOLE(Sees), FIELD(Sees, at), FIELD(Sees, first), FIELD(Sees, of_canvas), FIELD(Sees, of_key), FIELD(Sees, of_row),

    WHOLE(Read), FIELD(Read, canvases), FIELD(Read, rows), FIELD(Read, unread), FIELD(Read, ids), FIELD(Read, soft),
    FIELD(Read, encoder), FIELD(Read, positions), FIELD(Read, before), FIELD(Read, before_k), FIELD(Read, before_v),
    FIELD(Read, before_head), FIELD(Read, own), FIELD(Read, own_k), FIELD(Read, own_v), FIELD(Read, own_head),
    FIELD(Read, own_canvas), FIELD(Read, cos), FIELD(Read, sin), FIELD(Read, sees), FIELD(Read, out),

    WHOLE(Block), FIELD(Block, qkv), FIELD(Block, out), FIELD(Block, gate_up), FIELD(Block, down),
    FIELD(Block, qkv_bias), FIELD(Block, out_bias), FIELD(Block, q_norm), FIELD(Block, k_norm),
    FIELD(Block, before_attention), FIELD(Block, before_mlp),

    WHOLE(Decoder), FIELD(Decoder, hidden), FIELD(Decoder, heads), FIELD(Decoder, groups), FIELD(Decoder, head_dim),
    FIELD(Decoder, inner), FIELD(Decoder, layers), FIELD(Decoder, threads), FIELD(Decoder, eps), FIELD(Decoder, block),
    FIELD(Decoder, norm),

    WHOLE(Text), FIELD(Text, rows), FIELD(Text, unread), FIELD(Text, first), FIELD(Text, end), FIELD(Text, x),
    FIELD(Text, positions), FIELD(Text, before), FIELD(Text, keys), FIELD(Text, values), FIELD(Text, of_head),
    FIELD(Text, cos), FIELD(Text, sin), FIELD(Text, sees),
};

}  // namespace

extern "C" {

// How many numbers a register holds.
int64_t midspan_lanes() { return midspan::LANES; }

// Row `number` of the table; NULL behind the last.
const Field* midspan_field(int64_t number) {
    return number < int64_t(sizeof FIELDS / sizeof *FIELDS) ? FIELDS + number : nullptr;
}
}
