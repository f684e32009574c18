package wal

// What is appended gathers in pieces of one size, which are used again: one buffer that grows would be copied at each step, and
// left behind as garbage of many megabytes whenever the disk was slow for a moment.

const (
	// pieceBytes is the size of a piece, and so of the committer's batches: large enough that a full stream costs Pebble few of
	// them, far less than half a memtable, for which Pebble has a costly way of its own.
	pieceBytes = 1 << 20
	// maxSpare is how many empty pieces are kept: one gathers while another is written, and some more at a full stream.
	maxSpare = 4
)

// piece is some appends in a row. One that is longer than pieceBytes has a piece to itself.
type piece struct {
	buf  []byte
	segs []segment
}

// segment is one Append within its piece.
type segment struct {
	end int // in the piece's buf
	db  int // database selected at its start
}

func (p *piece) add(records []byte, db int) {
	p.buf = append(p.buf, records...)
	p.segs = append(p.segs, segment{len(p.buf), db})
}

// roomLocked returns the piece into which the next n bytes go. REQUIRES: mu.
func (l *Log) roomLocked(n int) *piece {
	if i := len(l.mu.pieces) - 1; i >= 0 {
		if p := l.mu.pieces[i]; len(p.buf)+n <= cap(p.buf) {
			return p
		}
	}
	var p *piece
	if i := len(l.mu.spare) - 1; i >= 0 && n <= pieceBytes {
		p, l.mu.spare[i] = l.mu.spare[i], nil
		l.mu.spare = l.mu.spare[:i]
	} else {
		p = &piece{buf: make([]byte, 0, max(n, pieceBytes))}
	}
	l.mu.pieces = append(l.mu.pieces, p)
	return p
}

// takeLocked takes all that has gathered, and tells how many appends that is. REQUIRES: writing; mu; what was taken before has
// been written.
func (l *Log) takeLocked() (appends int) {
	appends = l.mu.appends
	l.taken, l.mu.pieces = l.mu.pieces, l.taken[:0]
	l.mu.bytes, l.mu.appends = 0, 0
	return appends
}

// recycle keeps a piece for the next appends.
func (l *Log) recycle(p *piece) {
	if cap(p.buf) > pieceBytes {
		return
	}
	p.buf, p.segs = p.buf[:0], p.segs[:0]
	l.mu.Lock()
	if len(l.mu.spare) < maxSpare {
		l.mu.spare = append(l.mu.spare, p)
	}
	l.mu.Unlock()
}
