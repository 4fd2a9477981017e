/* Every verdict of a line in C: live ones as they come, those between from its journal, each checked by the schema.
   Needs libzmq3-dev, and for schema.cpp libvalijson-dev and nlohmann-json3-dev (Debian); takes no keys. To build and run:
   cc -c subscribe.c && c++ -std=c++17 -c schema.cpp && c++ -o subscribe subscribe.o schema.o -lzmq
   ./subscribe tcp://127.0.0.1:5556 tcp://127.0.0.1:5557 ../../hisir_edge/mes/verdict.schema.json COUNT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
int schema_load(const char *path);
long verdict_seq(const char *text, size_t size, char epoch[33]); /* -1: no verdict by the schema */
long heartbeat_seq(const char *text, size_t size, char epoch[33]);

static char now[33] = "";
static long last = 0, left;

/* JSON and mask of one verdict, its topic read before; whether the journal is to be asked. What a replay has is the
   next one, also where numbers between were deleted for their age, and its epoch is the present one; a live message may
   be late, of an epoch that is over. */
static int take(void *from, int replayed) {
  zmq_msg_t text, mask; char epoch[33] = "";
  zmq_msg_init(&text), zmq_msg_init(&mask), zmq_msg_recv(&text, from, 0), zmq_msg_recv(&mask, from, 0);
  long seq = verdict_seq(zmq_msg_data(&text), zmq_msg_size(&text), epoch);
  if (seq < 0) fprintf(stderr, "no verdict by the schema\n"), exit(1);
  if (replayed && strcmp(epoch, now)) strcpy(now, epoch), last = 0;
  int other = strcmp(epoch, now), next = !other && (replayed ? seq > last : seq == last + 1), ask = other || seq > last + 1;
  if (next) {
    printf("%s %ld %zu\n", now, last = seq, zmq_msg_size(&mask)), fflush(stdout);
    if (!--left) exit(0);
  }
  zmq_msg_close(&text), zmq_msg_close(&mask);
  return ask;
}

static int told(void *from) { /* a heartbeat, its topic read before; whether the journal is to be asked */
  zmq_msg_t text; char epoch[33] = "";
  zmq_msg_init(&text), zmq_msg_recv(&text, from, 0);
  long seq = heartbeat_seq(zmq_msg_data(&text), zmq_msg_size(&text), epoch);
  zmq_msg_close(&text);
  return seq > 0 && (strcmp(epoch, now) || seq > last);
}

/* What the journal has behind the last: how many; 0 is the end, or a refusal (the next heartbeat leads here again). */
static int replay(void *context, const char *control) {
  void *dealer = zmq_socket(context, ZMQ_DEALER);
  char ask[128]; int more, found = -1, wait_ms = 2000, linger = 0; size_t size = sizeof more;
  zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
  zmq_connect(dealer, control);
  int n = snprintf(ask, sizeof ask, "{\"do\": \"replay\", \"epoch\": \"%s\", \"after\": %ld}", now, last);
  zmq_send(dealer, ask, n, 0);
  if (zmq_recv(dealer, NULL, 0, 0) >= 0) /* the answer's own JSON; topic, JSON and mask of each verdict follow it */
    for (found = 0; zmq_getsockopt(dealer, ZMQ_RCVMORE, &more, &size), more; found++)
      zmq_recv(dealer, NULL, 0, 0), take(dealer, 1);
  zmq_close(dealer);
  return found; /* -1: no answer */
}

int main(int argc, char **argv) {
  if (argc != 5 || schema_load(argv[3])) return fprintf(stderr, "VERDICTS CONTROL SCHEMA COUNT\n"), 2;
  void *context = zmq_ctx_new(), *sub = zmq_socket(context, ZMQ_SUB);
  left = atol(argv[4]);
  if (zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "verdict/", 8) | zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "heartbeat/", 10) |
      zmq_connect(sub, argv[1]))
    return fprintf(stderr, "%s\n", zmq_strerror(zmq_errno())), 2;
  for (char topic; zmq_recv(sub, &topic, 1, 0) >= 0;)
    if (topic == 'h' ? told(sub) : take(sub, 0))
      while (replay(context, argv[2]));
  return 1;
}
