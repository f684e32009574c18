package engine

import (
	"context"
	"fmt"

	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// The replica's role. A replica's log is its primary's, byte for byte (R1), so nothing of its own may enter it: writes are
// refused, a key that has expired is hidden until the primary's DEL arrives, nothing is evicted. What enters comes through
// ApplyStream (stream.go) or a Loader (load.go).
//
// Engine.streamMu is for whoever changes what the log's bytes or ids come from: the stream, a load, a change of role. It comes
// before the checkpointer's lock and the executor's.

// SetReplica turns the replica's role on or off. It waits for an ApplyStream or a Loader's Commit under way, which the caller
// ends first. Turning it on sends blocked clients home in Redis's words. It is idempotent.
//
// To become a primary again call Promote, which begins a new id before the first write (W3). SetReplica(false) alone is
// for a role that was taken and left again without the log having followed anybody.
func (e *Engine) SetReplica(on bool) {
	e.streamMu.Lock()
	defer e.streamMu.Unlock()
	e.Lock()
	defer e.Unlock()
	e.setReplica(on)
}

// setReplica is SetReplica. REQUIRES: streamMu, mu.
func (e *Engine) setReplica(on bool) {
	if e.replica.Load() == on {
		return
	}
	e.commit()
	e.replica.Store(on)
	e.ctx.ReplicaRole = on
	if on {
		e.streamDB = e.bufDB // the stream goes on where it stands
		e.unblockAll(reply.UnblockedRoleChange)
	} else {
		e.streamDB = -1 // those who follow may not know where the stream stands: the next write selects
	}
}

// IsReplica tells whether this server follows a primary.
func (e *Engine) IsReplica() bool { return e.replica.Load() }

// Position tells where the stream stands: the current replication id, the end of the log, and the database selected in the
// stream there.
func (e *Engine) Position() (id string, end wal.Offset, db int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	end = e.logEnd + wal.Offset(len(e.buf))
	db = e.streamDB
	if db < 0 {
		db = e.bufDB
	}
	return e.ReplID(), end, db
}

// AppendOwn puts a record of the server's own into the stream (PING, REPLCONF GETACK *, PUBLISH), without SELECT, and
// returns the offset behind it. ok is false, and nothing happens, on a replica: the stream is its primary's.
func (e *Engine) AppendOwn(args ...[]byte) (end wal.Offset, ok bool) {
	e.Lock()
	defer e.Unlock()
	if e.replica.Load() {
		return e.logEnd, false
	}
	e.buf = wal.AppendCommand(e.buf, args...)
	return e.logEnd + wal.Offset(len(e.buf)), true
}

// AdoptID lets the lineage go on under id from the end of the log on, durably: what a primary's +CONTINUE says. If it is the
// current id already, nothing happens.
func (e *Engine) AdoptID(ctx context.Context, id string) error {
	e.streamMu.Lock()
	defer e.streamMu.Unlock()
	if id == e.ReplID() {
		return nil
	}
	if err := e.beginID(ctx, id); err != nil {
		return fmt.Errorf("replication id: %w", err)
	}
	return nil
}

// Promote makes this a primary: it begins a new random id at the durable end (W3), and only then lets writes in. It returns
// the id. A server that is a primary already gets a new id likewise.
func (e *Engine) Promote(ctx context.Context) (id string, err error) {
	e.streamMu.Lock()
	defer e.streamMu.Unlock()
	id = e.newID()
	if err := e.beginID(ctx, id); err != nil {
		return "", fmt.Errorf("replication id: %w", err)
	}
	e.Lock()
	defer e.Unlock()
	e.setReplica(false)
	return id, nil
}

// beginID ends the current id at the end of the log and begins another one. REQUIRES: streamMu.
func (e *Engine) beginID(ctx context.Context, id string) error {
	// The bulk of what is to be synced, before anybody has to wait for it.
	if err := e.log.Sync(ctx); err != nil {
		return err
	}
	if e.replica.Load() {
		return e.log.BeginID(id) // streamMu keeps everything out of the log
	}
	// On a primary the executor must not append meanwhile: one of the moments when it waits for the disk.
	e.Lock()
	defer e.Unlock()
	e.commit()
	e.streamDB = -1
	return e.log.BeginID(id)
}

// EndLocked returns the end of the log with the effects of this hold. REQUIRES: the lock.
func (e *Engine) EndLocked() wal.Offset { return e.logEnd + wal.Offset(len(e.buf)) }
