package engine

import "github.com/holdfast-db/holdfast/wal"

// Messages in the stream. PUBLISH changes no data; it is a record so that the subscribers of replicas hear it, too, at its place
// among the writes. Recovery passes over it.

// Message is a PUBLISH or SPUBLISH that came with a primary's stream, or an event of a key (notify.go).
type Message struct {
	Channel, Payload []byte // valid until OnMessage returns
	Shard            bool
	// After is the offset that must be durable before the message may leave (A1); 0 if it may at once.
	After wal.Offset
}

// AppendMessage puts a PUBLISH into the stream, into the record of the transaction that runs, if one does. On a replica it does
// nothing: the stream is its primary's (R1). Where the disk refuses writes it does nothing either: replicas then miss the message,
// as they would have without a link. REQUIRES: the lock.
func (e *Engine) AppendMessage(args ...[]byte) {
	if e.replica.Load() || e.refuse.Load() != nil {
		return
	}
	if e.inTxn {
		e.txn = wal.AppendCommand(e.txn, args...)
		e.txnCount++
		return
	}
	e.buf = wal.AppendCommand(e.buf, args...)
	e.setNextOff()
}

// Told returns the offset that must be durable before somebody else may be told something now: all that was executed before
// (A1). 0 means that nothing has to be waited for. Within a transaction the offset lies within its record, all of which becomes
// durable at once (W2). REQUIRES: the lock.
func (e *Engine) Told() wal.Offset {
	return e.told(e.logEnd + wal.Offset(len(e.buf)+len(e.txn)))
}

// ToldOutside is Told for who does not hold the lock: all that was executed in holds that have ended.
func (e *Engine) ToldOutside() wal.Offset { return e.told(e.log.End()) }

func (e *Engine) told(end wal.Offset) wal.Offset {
	if !e.unreleased(end) {
		return 0
	}
	return end
}

// note keeps a message of the stream until its record has been applied. REQUIRES: spec knows the command.
func (r *Replayer) note(args [][]byte) {
	if !r.live {
		return
	}
	if token, ok := markToken(args); ok {
		r.mark = token
		return
	}
	if r.e.opts.OnMessage == nil {
		return
	}
	switch r.e.table.Lookup(args[0]).Name {
	case "publish":
		r.messages = append(r.messages, Message{Channel: args[1], Payload: args[2]})
	case "spublish":
		r.messages = append(r.messages, Message{Channel: args[1], Payload: args[2], Shard: true})
	}
}

// tell delivers the messages and the events of the record that has just been applied. REQUIRES: the lock.
func (r *Replayer) tell() {
	told := r.told
	for i := range r.messages {
		for len(told) > 0 && told[0].before <= i {
			r.e.tellEvent(told[0].note)
			told = told[1:]
		}
		r.messages[i].After = r.e.Told()
		r.e.opts.OnMessage(&r.messages[i])
	}
	for _, t := range told {
		r.e.tellEvent(t.note)
	}
}

// forget drops the messages of a record that has been told, or that was not applied.
func (r *Replayer) forget() {
	clear(r.messages)
	r.messages = r.messages[:0]
	clear(r.told)
	r.told = r.told[:0]
}
