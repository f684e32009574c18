package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// Check verifies a data directory offline: the log (W1, W2, checksums, lineage), the store (S2, its rows and indexes),
// and the two together: C is a record boundary of the log (S1), every row decodes and encodes to the same bytes (K2),
// and, where the log reaches back to its beginning, replaying all of it gives the same data as the store and the log
// after it (S3). report gets a line for each thing looked at. The directory is locked meanwhile, and not changed.
func Check(ctx context.Context, o Options, report func(line string)) error {
	o.defaults()
	e := &Engine{opts: o, table: command.NewTable(), logger: o.Logger.Named("check"), now: o.Now, conf: *o.Command,
		watched: map[string]map[*Client]bool{}, waiting: map[string][]*waiter{}, streamDB: -1}
	e.disk.init(e)
	e.disk.fs = o.FS
	if _, err := o.FS.Stat(e.path(formatName)); err != nil {
		return fmt.Errorf("%s is not a data directory: %w", o.Dir, err)
	}
	if err := e.openDir(); err != nil {
		return err
	}
	cut, err := e.readSwitch()
	if err == nil && cut != nil {
		err = errUnfinished
	}
	if err == nil {
		err = e.checkAll(ctx, report)
	}
	return errors.Join(err, e.lock.Close())
}

func (e *Engine) checkAll(ctx context.Context, report func(line string)) (err error) {
	report("format: " + formatText[:len(formatText)-1])
	logOpts := wal.Options{FS: e.opts.FS, Dir: e.path("wal"), Logger: e.opts.Logger, Now: e.now, ReadOnly: true}
	if err := wal.Check(ctx, logOpts, report); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	storeOpts := snapshot.Options{FS: e.opts.FS, Dir: e.path("snapshot"), Logger: e.opts.Logger, ReadOnly: true}
	if err := snapshot.Check(ctx, storeOpts, report); err != nil {
		return fmt.Errorf("snapshot store: %w", err)
	}
	if e.log, err = wal.Open(logOpts); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer func() { err = errors.Join(err, e.log.Close()) }()
	if e.store, err = snapshot.Open(storeOpts); err != nil {
		return fmt.Errorf("snapshot store: %w", err)
	}
	defer func() { err = errors.Join(err, e.store.Close()) }()
	e.rows = rowStore{newStoreGate(e.store)}
	slots, err := e.readSlots()
	if err != nil {
		return err
	}
	for _, sl := range slots {
		report(fmt.Sprintf("slot %s: offset %d %s", sl.Name, int64(sl.Offset), sl.Lost))
	}
	m := e.store.Meta()

	// Recovery itself checks S1: it starts at C, and a position inside a record does not parse.
	if err := e.recover(-1); err != nil {
		return fmt.Errorf("S1: %w", err)
	}
	report(fmt.Sprintf("S1: the store's offset %d is a record boundary of the log, which ends at %d", m.C, e.log.End()))
	rows, err := e.checkRows()
	if err != nil {
		return fmt.Errorf("K2: %w", err)
	}
	report(fmt.Sprintf("K2: %d rows decode and encode to the same bytes", rows))
	digest := e.Digest()
	if e.disk.broken.Load() {
		return errors.New("S3: the store could not be read")
	}
	if first := e.log.First(); first > 0 {
		report(fmt.Sprintf("S3: not compared with a full replay, the log begins at offset %d; digest %s", first, hex.EncodeToString(digest[:])))
		return nil
	}
	full := &Engine{opts: e.opts, table: e.table, logger: e.logger, now: e.now, conf: e.conf, log: e.log,
		watched: e.watched, waiting: e.waiting, streamDB: -1}
	full.newKeyspace()
	if _, err := (&Replayer{e: full}).run(0, e.log.End()); err != nil {
		return fmt.Errorf("S3: %w", err)
	}
	if again := full.Digest(); again != digest {
		return fmt.Errorf("S3: store and log have digest %x, the whole log has %x: keep the directory, and restore from the log or a copy", digest, again)
	}
	report(fmt.Sprintf("S3: store and log after it equal the whole log, digest %s", hex.EncodeToString(digest[:])))
	return nil
}

// checkRows decodes every main row with its elements and encodes it again.
func (e *Engine) checkRows() (n int, err error) {
	for i := range e.ks.NumDBs() {
		c, err := keyspace.CheckRows(e.rows, e.opts.Limits, e.ks.DB(i).Phys())
		n += c
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Digest is a digest of all data and expiries. REQUIRES: the lock, or nobody else.
func (e *Engine) Digest() [20]byte { return command.StateDigest(e.ks) }

// RedisDigest is the digest of DEBUG DIGEST, equal to a redis-server's that holds the same data. REQUIRES: the lock.
func (e *Engine) RedisDigest() [20]byte { return command.Digest(e.ks) }
