package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// checkRecords tells whether data is a sequence of whole records, no MULTI left open (W2).
func checkRecords(data []byte) error {
	open := false
	var args [][]byte
	for len(data) > 0 {
		var n int
		var err error
		args, n, err = AppendArgs(args[:0], data)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: ends inside a command", ErrRecord)
		}
		switch {
		case len(args) == 1 && bytes.EqualFold(args[0], []byte("MULTI")):
			if open {
				return fmt.Errorf("%w: MULTI inside MULTI", ErrRecord)
			}
			open = true
		case len(args) == 1 && bytes.EqualFold(args[0], []byte("EXEC")):
			if !open {
				return fmt.Errorf("%w: EXEC without MULTI", ErrRecord)
			}
			open = false
		}
		data = data[n:]
	}
	if open {
		return fmt.Errorf("%w: MULTI without EXEC", ErrRecord)
	}
	return nil
}

// Check verifies a log offline without changing it: chunks are dense (W1), hold whole records (W2) and match their
// checksums, and the lineage covers them without gaps (W3). report gets a line for each thing looked at.
func Check(ctx context.Context, o Options, report func(line string)) error {
	o.ReadOnly = true
	l, err := Open(o)
	if err != nil {
		return err
	}
	return errors.Join(l.check(ctx, report), l.Close())
}

func (l *Log) check(ctx context.Context, report func(line string)) error {
	it, err := l.chunkIter()
	if err != nil {
		return err
	}
	defer it.Close()
	var chunks, lastMs int64
	next := l.First()
	backwards := 0
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		start, c, err := chunkAt(it)
		if err != nil {
			return err
		}
		if start != next {
			return &CorruptionError{next, fmt.Errorf("W1: the next chunk begins at %d", start)}
		}
		if err := checkRecords(c.data); err != nil {
			return &CorruptionError{start, fmt.Errorf("W2: %w", err)}
		}
		if c.unixMs < lastMs {
			backwards++
		}
		lastMs = c.unixMs
		next = start + Offset(len(c.data))
		chunks++
	}
	if err := it.Error(); err != nil {
		return readError(next, err)
	}
	report(fmt.Sprintf("W1, W2: %d chunks from offset %d to %d are dense, hold whole records and match their checksums", chunks, l.First(), next))
	if backwards > 0 {
		report(fmt.Sprintf("note: the clock went back %d times between chunks; looking up an offset by time is as exact as the clock was", backwards))
	} else if chunks > 0 {
		report("time stamps do not fall; newest chunk of " + time.UnixMilli(lastMs).UTC().Format(time.RFC3339))
	}
	lineage := l.Lineage()
	if err := checkLineage(lineage, next); err != nil {
		return err
	}
	report(fmt.Sprintf("W3: %d replication ids follow one another without gaps", len(lineage)))
	return nil
}
