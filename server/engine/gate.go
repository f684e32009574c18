package engine

import (
	"errors"
	"io/fs"

	"github.com/holdfast-db/holdfast/wal"
)

// What the server lays upon clients for the sake of replicas: writes are refused while too few of them are in step, and
// replies wait until enough of them have on disk what was written.

// SetWriteGate makes clients' writes fail with an error, in the server's words; "" lets them through again. What the engine
// refuses by itself (WriteError, a replica's role) comes first.
func (e *Engine) SetWriteGate(refusal string) {
	if refusal == "" {
		e.gate.refusal.Store(nil)
		return
	}
	e.gate.refusal.Store(&refusal)
}

// SetReplyGate makes replies wait for more than this server's own disk: those that depend on bytes behind released must not
// leave yet, whatever the policy (A1). on false: the policy alone decides.
func (e *Engine) SetReplyGate(on bool, released wal.Offset) {
	e.gate.released.Store(int64(released))
	e.gate.on.Store(on)
}

// unreleased tells whether a reply that depends on what stands before off must wait.
func (e *Engine) unreleased(off wal.Offset) bool {
	switch {
	case e.gate.on.Load():
		return int64(off) > e.gate.released.Load()
	case e.policy.Load() != int32(wal.Always):
		return false
	default:
		return off > e.log.Durable()
	}
}

// roleName is the file in which the server keeps its role.
const roleName = "ROLE"

// SaveRole keeps text, which says whom the server follows, durably in the data directory. Options.Role gets it at the next start.
func (e *Engine) SaveRole(text string) error { return e.writeMark(roleName, text) }

// readRole asks the server for its role, given what it had saved.
func (e *Engine) readRole() error {
	if e.opts.Role == nil {
		return nil
	}
	text, err := readFile(e.opts.FS, e.path(roleName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e.opts.Replica, err = e.opts.Role(text)
	return err
}
