/* Packed samples for the standalone executable: one file, of which a batch at a time is read. */
#ifndef POCK_DATA_H
#define POCK_DATA_H

#include "pock_internal.h"
#include "pock_order.h"

typedef struct {
  int file;
  const char *path;
  uint64_t count;
} pock_data;

/* Open a .pockdata file, whose name must outlive `data`, and check all of it. */
int pock_data_open(pock_session *session, pock_data *data, const char *path);
void pock_data_close(pock_data *data);

/* Read records `first`, `first + 1`, … into rows 0, 1, … of the inputs and labels, cycling at the end of the file. */
int pock_data_fill(pock_session *session, const pock_data *data, uint64_t first, uint64_t rows);

/* Read what a run draws at `position`, `position + 1`, … into the rows of a batch; its pictures are changed where
 * `augmentation` is not NULL. */
int pock_data_draw(pock_session *session, const pock_data *data, pock_order *order,
                   const pock_augmentation *augmentation, uint64_t position);

/* Repeat one record in rows `from` … of the batch. */
int pock_data_repeat(pock_session *session, const pock_data *data, uint64_t record, uint64_t from);

#endif
