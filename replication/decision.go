package replication

import (
	"fmt"

	"github.com/holdfast-db/holdfast/wal"
)

// Decision says how a request to synchronise is answered.
type Decision struct {
	// Continue: the replica stands on our history and the bytes it lacks are kept, from From on. Else a full sync.
	Continue bool
	From     wal.Offset
	// Why is the reason for a full sync, in Redis's words where it has some.
	Why string
	// Asked: the replica asked for a partial resync. One that asked for a full one is not counted as a failed partial resync.
	Asked bool
	// Ahead: the id is the current one, and the replica has more of its history than is here.
	Ahead bool
}

// Decide judges PSYNC id asked by the whole lineage (W3), oldest id first. asked is 1-based, the first byte that the replica
// lacks: it has asked-1 bytes of history. So asked = durable+1 is a valid resume with nothing to send.
//
// A replica that names an id has a prefix of the history that this id had; which ids came before it does not matter, since
// whoever hands on an id hands on the history before it, too. So for an id that has ended, all offsets up to its end lie
// on our history, even those before its start; for the current one all that is durable here (W5). first is the offset of
// the first byte kept.
//
// An id can stand in the lineage twice, if its owner went on under it after we had begun another: its last end counts.
func Decide(lineage []wal.LineageEntry, first, durable wal.Offset, id string, asked int64) Decision {
	d := Decision{From: wal.Offset(asked - 1), Asked: id != "?"}
	if !d.Asked {
		d.Why = "full resync requested"
		return d
	}
	end := wal.Offset(-1)
	for i := len(lineage) - 1; i >= 0 && end < 0; i-- {
		if e := lineage[i]; e.ID == id {
			end = e.End
			if i == len(lineage)-1 {
				end = durable
			}
		}
	}
	current := ""
	if n := len(lineage); n > 0 {
		current = lineage[n-1].ID
	}
	switch {
	case end < 0:
		d.Why = fmt.Sprintf("Replication ID mismatch (Replica asked for '%s', my replication ID is '%s', and none of the %d before it matches)",
			printable(id), current, max(0, len(lineage)-1))
	case asked < 1:
		d.Why = fmt.Sprintf("Requested offset was %d, but the first one is 1", asked)
	case d.From > end && id == current:
		d.Ahead = true
		d.Why = fmt.Sprintf("Replica tried to PSYNC with offset %d that is greater than the master replication offset %d", asked, int64(end))
	case d.From > end:
		d.Why = fmt.Sprintf("Requested offset for an earlier ID was %d, but I can reply up to %d", asked, int64(end)+1)
	case d.From < first:
		d.Why = fmt.Sprintf("lack of backlog (Replica request was: %d, the first byte kept is: %d)", asked, int64(first)+1)
	default:
		d.Continue = true
	}
	return d
}

// printable makes what a peer sent fit for a log line.
func printable(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most]
	}
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// askWith returns with which id a replica at end asks for what follows: the newest one under which it has bytes. An id
// that was begun here at the end of what came from elsewhere, and under which nothing was written, is known to nobody else;
// the one before it is, and its history is ours. ok is false if there is no such id.
func askWith(lineage []wal.LineageEntry, end wal.Offset) (id string, ok bool) {
	for i := len(lineage) - 1; i >= 0; i-- {
		if lineage[i].Start < end {
			return lineage[i].ID, true
		}
	}
	return "", false
}
