/* Every verdict of a line in C: live ones as they come, those between from its journal, each checked by the schema.
   cc -c subscribe.c && c++ -std=c++17 -c schema.cpp && c++ -o subscribe subscribe.o schema.o -lzmq
   ./subscribe tcp://127.0.0.1:5556 tcp://127.0.0.1:5557 verdict.schema.json COUNT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
int schema_load(const char *path);
long verdict_seq(const char *text, size_t size, char epoch[33]); /* -1: no verdict by the schema */

static long last = 0, left;
static void *sub, *dealer;

static void take(void *from) { /* JSON and mask of one verdict, its topic read before */
  zmq_msg_t text, mask; char epoch[33] = "";
  zmq_msg_init(&text), zmq_msg_init(&mask), zmq_msg_recv(&text, from, 0), zmq_msg_recv(&mask, from, 0);
  long seq = verdict_seq(zmq_msg_data(&text), zmq_msg_size(&text), epoch);
  if (seq < 0) fprintf(stderr, "no verdict by the schema\n"), exit(1);
  if (from == sub && seq > last + 1) { /* a gap: the journal has it, and this one with it */
    char ask[99]; int more; size_t size = sizeof more;
    do {
      zmq_send(dealer, ask, snprintf(ask, sizeof ask, "{\"do\": \"replay\", \"after\": %ld}", last), 0);
      zmq_recv(dealer, NULL, 0, 0); /* the answer's own JSON; topic, JSON and mask of each verdict follow it */
      while (zmq_getsockopt(dealer, ZMQ_RCVMORE, &more, &size), more) zmq_recv(dealer, NULL, 0, 0), take(dealer);
    } while (last < seq);
  } else if (seq == last + 1) {
    printf("%s %ld %zu\n", epoch, last = seq, zmq_msg_size(&mask)), fflush(stdout);
    if (!--left) exit(0);
  }
  zmq_msg_close(&text), zmq_msg_close(&mask);
}

int main(int argc, char **argv) {
  if (argc != 5 || schema_load(argv[3])) return fprintf(stderr, "VERDICTS CONTROL SCHEMA COUNT\n"), 2;
  void *context = zmq_ctx_new();
  left = atol(argv[4]), sub = zmq_socket(context, ZMQ_SUB), dealer = zmq_socket(context, ZMQ_DEALER);
  if (zmq_setsockopt(sub, ZMQ_SUBSCRIBE, "verdict/", 8) | zmq_connect(sub, argv[1]) | zmq_connect(dealer, argv[2]))
    return fprintf(stderr, "%s\n", zmq_strerror(zmq_errno())), 2;
  while (zmq_recv(sub, NULL, 0, 0) >= 0) take(sub);
  return 1;
}
