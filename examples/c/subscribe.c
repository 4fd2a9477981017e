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

static long take(void *from) { /* JSON and mask of one verdict, its topic read before; its number */
  zmq_msg_t text, mask; char epoch[33] = "";
  zmq_msg_init(&text), zmq_msg_init(&mask), zmq_msg_recv(&text, from, 0), zmq_msg_recv(&mask, from, 0);
  long seq = verdict_seq(zmq_msg_data(&text), zmq_msg_size(&text), epoch);
  if (seq < 0) fprintf(stderr, "no verdict by the schema\n"), exit(1);
  if (strcmp(epoch, now)) strcpy(now, epoch), last = 0; /* the line has a new journal: from its first verdict on */
  if (seq == last + 1) {
    printf("%s %ld %zu\n", now, last = seq, zmq_msg_size(&mask)), fflush(stdout);
    if (!--left) exit(0);
  }
  zmq_msg_close(&text), zmq_msg_close(&mask);
  return seq;
}

static long told(void *from) { /* the number that the line is at, by its heartbeat; its topic was read before */
  zmq_msg_t text; char epoch[33] = "";
  zmq_msg_init(&text), zmq_msg_recv(&text, from, 0);
  long seq = heartbeat_seq(zmq_msg_data(&text), zmq_msg_size(&text), epoch);
  if (seq > 0 && strcmp(epoch, now)) strcpy(now, epoch), last = 0;
  zmq_msg_close(&text);
  return seq;
}

static void replay(void *context, const char *control) { /* what the journal has behind the last; a line may be gone */
  void *dealer = zmq_socket(context, ZMQ_DEALER);
  char ask[128]; int more, wait_ms = 2000, linger = 0; size_t size = sizeof more;
  zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
  zmq_connect(dealer, control);
  int n = snprintf(ask, sizeof ask, "{\"do\": \"replay\", \"epoch\": \"%s\", \"after\": %ld}", now, last);
  zmq_send(dealer, ask, n, 0);
  if (zmq_recv(dealer, NULL, 0, 0) >= 0) /* the answer's own JSON; topic, JSON and mask of each verdict follow it */
    while (zmq_getsockopt(dealer, ZMQ_RCVMORE, &more, &size), more) zmq_recv(dealer, NULL, 0, 0), take(dealer);
  zmq_close(dealer);
}

int main(int argc, char **argv) {
  if (argc != 5 || schema_load(argv[3])) return fprintf(stderr, "VERDICTS CONTROL SCHEMA COUNT\n"), 2;
  void *context = zmq_ctx_new(), *sub = zmq_socket(context, ZMQ_SUB);
  left = atol(argv[4]);
  if (zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "verdict/", 8) | zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "heartbeat/", 10) |
      zmq_connect(sub, argv[1]))
    return fprintf(stderr, "%s\n", zmq_strerror(zmq_errno())), 2;
  for (char topic; zmq_recv(sub, &topic, 1, 0) >= 0;)
    for (long seq = topic == 'h' ? told(sub) : take(sub); last < seq;) /* a gap: the journal has it */
      replay(context, argv[2]);
  return 1;
}
