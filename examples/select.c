/* Which tokens of a layer are worth keeping: arrays of an engine of your own in, positions out.
 *
 *   cc -std=c11 examples/select.c $(pkg-config --cflags --libs restkv) -o select && ./select
 */
#include <restkv.h>
#include <stdio.h>
#include <stdlib.h>

enum { kQueryHeads = 8, kKvHeads = 2, kDim = 32, kWidth = kQueryHeads * kDim };
enum { kTokens = 1000, kWindow = 32, kBudget = 128 };

/* Made-up numbers between -1 and 1; a real engine has the layer's queries, keys and values. */
static void fill(float* to, size_t count, unsigned seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525U + 1013904223U;
    to[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0F;
  }
}

static float queries[kQueryHeads * kWindow * kDim]; /* of the last tokens, rotated */
static float keys[kKvHeads * kTokens * kDim];       /* rotated */
static float values[kKvHeads * kTokens * kDim];
static float wo[kWidth * kWidth];

int main(void) {
  fill(queries, sizeof queries / sizeof *queries, 1);
  fill(keys, sizeof keys / sizeof *keys, 2);
  fill(values, sizeof values / sizeof *values, 3);
  fill(wo, sizeof wo / sizeof *wo, 4);

  const restkv_layer layer = {.size = sizeof layer,
                              .queries = {queries, kQueryHeads, kWindow, kDim, 0, 0},
                              .keys = {keys, kKvHeads, kTokens, kDim, 0, 0},
                              .values = {values, kKvHeads, kTokens, kDim, 0, 0},
                              .wo = wo,
                              .width = kWidth};
  const char* const methods[] = {"restkv", "snapkv:kernel=7:pooling=average", "streaming-llm",
                                 "h2o"};
  for (size_t i = 0; i < sizeof methods / sizeof *methods; ++i) {
    restkv_selection* selection = NULL;
    if (restkv_select(&layer, methods[i], "128", &selection) != RESTKV_OK) {
      printf("%s: %s\n", methods[i], restkv_last_error());
      continue;
    }
    for (size_t head = 0; head < restkv_selection_heads(selection); ++head) {
      size_t count = 0;
      const int32_t* positions = restkv_selection_positions(selection, head, &count);
      if (count != kBudget || positions[count - 1] != kTokens - 1) {
        fprintf(stderr, "%s keeps %zu tokens\n", methods[i], count);
        return 1;
      }
      printf("%s, KV head %zu: %zu tokens, the first ones %d, %d, %d\n", methods[i], head, count,
             (int)positions[0], (int)positions[1], (int)positions[2]);
    }
    restkv_selection_free(selection);
  }
  return 0;
}
