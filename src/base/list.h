/*
 * list.h - a doubly linked ring, its nodes inside the structures that it links.
 *
 * Purpose:   lists without memory of their own.
 * Threads:   none of it is thread safe; the structure with the head says what guards it.
 * Ownership: a list owns nothing; a node's memory is that of its structure.
 */
#ifndef NL_LIST_H
#define NL_LIST_H

#include "base/base.h"

typedef struct nl_list {
    struct nl_list *next, *prev;
} nl_list;

static inline void nl_list_init(nl_list *l)
{
    l->next = l->prev = l;
}

static inline bool nl_list_empty(const nl_list *l)
{
    return l->next == l;
}

static inline void nl_list_push_back(nl_list *head, nl_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void nl_list_push_front(nl_list *head, nl_list *node)
{
    nl_list_push_back(head->next, node);
}

/* Takes a node out; it is left linked to itself, so that removing twice is harmless. */
static inline void nl_list_remove(nl_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}

/* First node, taken out, or NULL. */
static inline nl_list *nl_list_pop_front(nl_list *head)
{
    nl_list *node = head->next;
    if (node == head) {
        return NULL;
    }
    nl_list_remove(node);
    return node;
}

#endif
