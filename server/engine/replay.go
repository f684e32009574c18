package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

func appendSelect(dst []byte, db int) []byte {
	return wal.AppendCommand(dst, []byte("SELECT"), strconv.AppendInt(nil, int64(db), 10))
}

// recover brings the keyspace to the end of the log, or to until if that is not negative: the store's C, then every
// record from there through the same handlers that made it (S3). Its time depends on the log since C, never on the size
// of the data.
func (e *Engine) recover(until wal.Offset) error {
	m := e.store.Meta()
	end := e.log.End()
	if m.C > end {
		return fmt.Errorf("snapshot store stands at offset %d but the log ends at %d: the log has lost its end; restore the directory from a copy", m.C, end)
	}
	if m.C < e.log.First() {
		return fmt.Errorf("snapshot store stands at offset %d but the log begins at %d: restore the directory from a copy", m.C, e.log.First())
	}
	if until >= 0 && until < end {
		end = until
	}
	e.newKeyspace()
	layout := make([]keyspace.DBLayout, len(m.DBs))
	for i, d := range m.DBs {
		layout[i] = keyspace.DBLayout{Logical: d.Logical, Phys: d.Phys, Keys: d.Keys, Expires: d.Expires, Timed: d.Timed}
	}
	e.ks.Restore(layout, m.NextPhys, m.NextOID)
	for len(e.selects) < e.ks.NumDBs() {
		e.selects = append(e.selects, appendSelect(nil, len(e.selects)))
	}
	e.logEnd, e.checkpointAt = end, m.C
	e.streamDB, e.bufDB = -1, 0
	start := e.now()
	r := &Replayer{e: e, db: m.SelectedDB}
	n, err := r.run(m.C, end)
	if err != nil {
		return err
	}
	e.bufDB = r.db
	if e.replica.Load() {
		e.streamDB = r.db
	}
	e.setNextOff()
	e.ks.Seen = 0
	if n > 0 {
		e.logger.Info("log replayed", "from-offset", int64(m.C), "to-offset", int64(end), "records", n,
			"elapsed-ms", e.now().Sub(start).Milliseconds())
	}
	return nil
}

func (e *Engine) newKeyspace() {
	e.ks = keyspace.New(e.opts.Databases, e.opts.Limits, e.rows)
	e.ks.Mutant = e.opts.mutant
	e.ks.OnTouch, e.ks.OnFlush, e.ks.OnAdd, e.ks.OnError = e.onTouch, e.onFlush, e.onAdd, e.readFailed
	e.ctx = command.Ctx{KS: e.ks, Rand: e.rand, Conf: &e.conf, W: &reply.Writer{}, ReplicaRole: e.replica.Load()}
	e.ks.OnNew = e.ctx.Created
	e.ctx.SetEvents(e.events)
}

// readFailed notes that the store could not be read inside the lock: the command saw a key as absent that is not, so
// nothing may be acknowledged from here on; or that it is damaged where a checkpoint must know what it has. REQUIRES: the lock.
func (e *Engine) readFailed(err error) {
	msg := "MISCONF Errors reading from the snapshot store: " + err.Error()
	e.logger.Error("reading the snapshot store failed, writes are refused until a restart", "error", err)
	e.refuseWrites(&msg)
	e.disk.broken.Store(true)
}

// Replayer applies records of a log. It is the one replay loop: start, restore and verification use it.
type Replayer struct {
	e     *Engine
	db    int
	w     reply.Writer
	live  bool // a primary's stream, not the log: see stream.go
	args  [][]byte
	batch recordBatch // see recordbatch.go

	messages []Message     // of the record that is being applied, see publish.go
	told     []streamEvent // likewise, see notify.go
	mark     string        // token of the mark that the newest record is, see mark.go
}

// ReplayError says which record could not be applied.
type ReplayError struct {
	Offset wal.Offset
	Err    error
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("record at offset %d cannot be applied: %v", int64(e.Offset), e.Err)
}

func (e *ReplayError) Unwrap() error { return e.Err }

// replayWindow is how many bytes of the log are looked at together: the more keys are read at once, the denser they lie in
// the store, and the more its reads become a walk. A memory budget makes it smaller, since all of them are resident.
const replayWindow = 128 << 20

// errCut says that a record goes beyond the offset up to which the log is applied.
var errCut = errors.New("record is cut off")

func (r *Replayer) run(from, to wal.Offset) (records int64, err error) {
	if from >= to {
		return 0, nil
	}
	rd, err := r.e.log.NewReader(from)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	window := replayWindow
	if budget := int(r.e.limits.MaxMemory.Load()); budget > 0 {
		window = min(window, budget/16)
	}
	buf := make([]byte, 0, min(window, int(to-from))+wal.DefaultMaxChunkBytes) // from pos on
	pos, fetched := from, from
	for pos < to {
		for len(buf) < window && fetched < to {
			start, data, err := rd.Next(context.Background())
			if err != nil {
				return records, err
			}
			data = data[:min(wal.Offset(len(data)), to-start)]
			buf = append(buf, data...)
			fetched += wal.Offset(len(data))
		}
		data := buf
		pins := r.e.prefetch(data, r.db)
		r.batch.drop()
		for len(data) > 0 {
			n, err := r.command(data)
			if err != nil {
				return records, &ReplayError{pos, err}
			}
			if n == 0 {
				if fetched >= to {
					return records, &ReplayError{pos, errCut}
				}
				break
			}
			records++
			data = data[n:]
			pos += wal.Offset(n)
		}
		buf = buf[:copy(buf, data)]
		for _, p := range pins {
			p.l.Unpin(p.o)
		}
		r.e.unload(unloadBurst)
	}
	return records, nil
}

// command applies the command at the front of data and returns its size; 0 if it is not whole.
func (r *Replayer) command(data []byte) (n int, err error) {
	p := r.batch.pop()
	if p == nil && r.lookAhead(data, len(data)) {
		p = r.batch.pop()
	}
	if p != nil {
		return p.size, r.applyParsed(p)
	}
	if r.args, n, err = wal.AppendArgs(r.args[:0], data); err != nil || n == 0 {
		return 0, err
	}
	return n, r.apply(r.args)
}

func isSelect(args [][]byte) bool {
	return len(args) == 2 && len(args[0]) == 6 && (string(args[0]) == "SELECT" || string(args[0]) == "select")
}

// errForeign marks a command in the log that this version does not know.
var errForeign = errors.New("unknown command")

func (r *Replayer) apply(args [][]byte) error {
	e := r.e
	if isSelect(args) {
		n, ok := command.ParseInt(args[1])
		if !ok || n < 0 || int(n) >= e.ks.NumDBs() {
			return fmt.Errorf("database %q is out of range: raise the number of databases", args[1])
		}
		r.db = int(n)
		return nil
	}
	spec, err := r.spec(args)
	if err != nil {
		return err
	}
	if spec == nil {
		r.note(args)
		return nil
	}
	return r.execute(spec, args)
}

// execute runs a command that changes data.
func (r *Replayer) execute(spec *command.Spec, args [][]byte) error {
	e := r.e
	c := &e.ctx
	c.Replay = true
	r.w.Reset(2)
	c.DB, c.W = e.ks.DB(r.db), &r.w
	c.Reset(spec, args)
	if r.live {
		e.setNextOff()
	} else {
		e.ks.NextOff = 0 // all that is replayed is durable
	}
	e.replacesNow(c.DB, spec, args)
	spec.Handler(c)
	c.Replay = false
	r.noteEvents()
	e.ks.AfterCommand()
	if b := r.w.Bytes(); len(b) > 0 && b[0] == '-' {
		return fmt.Errorf("%s", b[1:])
	}
	return nil
}

// spec returns how to apply a command; nil for one that frames the stream or keeps it alive, and changes nothing.
func (r *Replayer) spec(args [][]byte) (*command.Spec, error) {
	spec := r.e.table.Lookup(args[0])
	if spec == nil {
		return nil, fmt.Errorf("%w %q", errForeign, args[0])
	}
	switch spec.Name {
	case "multi", "exec", "ping", "replconf":
		return nil, nil
	case "publish", "spublish":
		if spec.ArityOK(len(args)) {
			return nil, nil
		}
	}
	if spec.Handler == nil || !spec.ArityOK(len(args)) {
		return nil, fmt.Errorf("%w %q with %d arguments", errForeign, args[0], len(args))
	}
	return spec, nil
}

// Reload writes a checkpoint, forgets memory, and recovers (DEBUG RELOAD).
func (e *Engine) Reload(ctx context.Context) error {
	if err := e.Checkpoint(ctx); err != nil {
		return err
	}
	return e.rebuild(ctx)
}

// Forget forgets memory and recovers, with no checkpoint before: what came after the last one is replayed (DEBUG RELOAD NOSAVE,
// DEBUG LOADAOF).
func (e *Engine) Forget(ctx context.Context) error { return e.rebuild(ctx) }

// rebuild forgets memory and recovers from store and log.
func (e *Engine) rebuild(ctx context.Context) error {
	e.check.one.Lock()
	defer e.check.one.Unlock()
	if err := e.log.Sync(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commit()
	if err := e.log.WaitDurable(ctx, e.logEnd); err != nil {
		if err := e.log.Sync(ctx); err != nil {
			return err
		}
	}
	watching, blocking := e.ks.Watching, e.ks.Blocking
	err := e.recover(-1)
	e.ks.Watching, e.ks.Blocking = watching, blocking
	e.lockedAt = e.now()
	e.ctx.Now = e.lockedAt.UnixMilli()
	e.ks.Clock = uint32(e.lockedAt.Unix())
	return err
}
