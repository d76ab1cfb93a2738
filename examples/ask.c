/* Reads a document once, with a small compressed cache, and answers questions about it.
 *
 *   cc -std=c11 examples/ask.c $(pkg-config --cflags --libs restkv) -o ask
 *   ./ask model.gguf report.txt "What was decided?" "When?"
 */
#include <errno.h>
#include <restkv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program with what the library says of its last failure. */
static void check(restkv_status status) {
  if (status == RESTKV_OK) return;
  fprintf(stderr, "ask: %s\n", restkv_last_error());
  exit(status == RESTKV_INVALID_ARGUMENT ? 2 : 1);
}

/* The whole file; the caller frees it. */
static char* read_file(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  char* text = NULL;
  size_t room = 0;
  *bytes = 0;
  while (file != NULL && !ferror(file) && !feof(file)) {
    room += 1 << 16;
    char* longer = realloc(text, room);
    if (longer == NULL) break;
    text = longer;
    *bytes += fread(text + *bytes, 1, room - *bytes, file);
  }
  if (file == NULL || ferror(file) || !feof(file)) {
    fprintf(stderr, "ask: %s: %s\n", path, strerror(errno));
    exit(1);
  }
  fclose(file);
  return text;
}

static int show(void* user, const char* text, size_t bytes) {
  FILE* to = user;
  return fwrite(text, 1, bytes, to) != bytes || fflush(to) != 0;
}

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: ask MODEL FILE QUESTION...\n");
    return 2;
  }
  size_t bytes = 0;
  char* text = read_file(argv[2], &bytes);

  restkv_model* model = NULL;
  check(restkv_model_open(argv[1], NULL, &model));

  /* A method that expects no particular question, and a quarter of the document. */
  const restkv_sequence_options options = {
      .size = sizeof options, .method = "kvzip", .budget = "25%"};
  restkv_sequence* document = NULL;
  check(restkv_sequence_new(model, &options, &document));
  check(restkv_sequence_read(document, text, bytes, NULL, NULL));
  free(text);

  restkv_sequence_stats stats = {.size = sizeof stats};
  check(restkv_sequence_get_stats(document, &stats));
  fprintf(stderr, "%zu tokens read, %.0f kept per KV head: %zu of %zu KiB\n", stats.tokens,
          stats.kept, stats.kv_bytes / 1024, stats.full_kv_bytes / 1024);

  const restkv_generation_options how = {
      .size = sizeof how, .max_tokens = 128, .on_text = show, .user = stdout};
  for (int i = 3; i < argc; ++i) {
    restkv_sequence* asked = NULL;
    check(restkv_sequence_fork(document, &asked));
    check(restkv_sequence_ask(asked, argv[i], strlen(argv[i]), NULL, NULL));
    check(restkv_sequence_generate(asked, &how, NULL));
    putchar('\n');
    restkv_sequence_free(asked);
  }
  restkv_sequence_free(document);
  restkv_model_free(model);
  return 0;
}
