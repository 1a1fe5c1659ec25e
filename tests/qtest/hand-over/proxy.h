/*
 * Hand-over tests: what stands between two QEMUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The source connects to a socket of the proxy, the proxy connects to the
 * destination's, and passes on what they say to each other, descriptors
 * included.  It can stop the exchange before any message.
 */

#ifndef HAND_OVER_PROXY_H
#define HAND_OVER_PROXY_H

typedef enum Action {
    PASS,               /* do nothing */
    KILL_SOURCE,
    KILL_DESTINATION,
    QUIT_SOURCE,        /* it ends in order */
    REFUSE,             /* tell the source that the destination refuses */
    GIVE_UP,            /* close the connection to both, kill nobody */
    CANCEL,
    GARBAGE,            /* bytes that are no message, to the receiver */
    CUT,                /* half of the message, then close */
    NO_DESCRIPTOR,      /* leave out the descriptor that goes with it */
    TWO_DESCRIPTORS,
    NO_MEMORY,          /* a descriptor of something else */
    SMALL_MEMORY,       /* of memory that is too small */
    READ_ONLY_MEMORY,   /* of memory that can't be written to */
} Action;

typedef struct Proxy {
    const char *at;     /* before which message */
    bool from_source;
    Action action;
    bool acted;         /* has come to that message */

    int listener;
    char *to;           /* path of the destination's socket */
    int fd[2];          /* source, destination */
    int reached[2], go[2];  /* pipes */
    bool greeted;       /* both speak the newest version */
    bool streaming;     /* the source sends a migration stream */
    GThread *thread;
} Proxy;

/*
 * Wait for the source at the socket tmp_path("proxy"); the destination listens
 * at the path @destination.  The caller has set @at, @from_source and @action.
 */
void proxy_start(Proxy *p, const char *destination);
/* Wait until the proxy has received the message @at, and holds it */
void proxy_wait(Proxy *p);
/* Let it do what @action says */
void proxy_go(Proxy *p);
/* Wait until both connections are closed, which they are about to be */
void proxy_end(Proxy *p);

/* A program between two QEMUs that forwards bytes, but no descriptors */
typedef struct Forwarder {
    int listener;
    char *to;
    GThread *thread;
} Forwarder;

/*
 * Forward to @uri, which says unix:PATH, and is freed.  Returns the URI that it
 * forwards from, to be freed with g_free().
 */
char *forwarder_start(Forwarder *fwd, char *uri);
void forwarder_end(Forwarder *fwd);

#endif
