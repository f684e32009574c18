package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/snapshot"
	"github.com/holdfast-db/holdfast/wal"
)

// Marks: the data of several servers at one offset, while writes go on. A primary puts a record into the stream that changes
// nothing, and takes a checkpoint whose C is just behind it. A replica that meets the record does the same, so that there is a view
// of the store at the same offset on each: at one offset the log is the same bytes (R1), and so must be the data (S3). To a
// redis-server the record is a PING. Recovery passes over marks.

// markPrefix begins the text of the PING that is a mark.
const markPrefix = "holdfast-mark:"

// markTime is for how long a mark is kept that nobody asks for, and marksKept how many there are at most: a view keeps tables
// on disk that compactions have replaced. All servers of a chain keep all its marks, so there must be room for those of a few
// replicas that check themselves, and of a person.
const (
	markTime  = time.Minute
	marksKept = 8
)

// ErrMarkReplica says that a mark is asked of a replica, whose stream is its primary's (R1).
var ErrMarkReplica = errors.New("a replica makes no marks, its primary does")

// errMarkPassed says that the stream has gone on before the data could be handed over.
var errMarkPassed = errors.New("the stream has passed the mark")

// ErrNoMark says that there is no such mark: never made, not arrived yet, or not asked for too long.
var ErrNoMark = errors.New("no such mark")

// MarkView is the data at a mark. Its methods may be called from any goroutine, until Release.
type MarkView struct {
	Offset wal.Offset
	ReplID string
	Meta   snapshot.Meta

	view *snapshot.View
	ctx  context.Context // ends when the mark is dropped
	set  *markSet
	m    *mark
}

type mark struct {
	token  string
	ready  chan struct{} // closed when view or err is there
	view   *snapshot.View
	id     string
	err    error
	ctx    context.Context
	cancel context.CancelFunc

	// Under markSet.mu.
	users   int
	used    time.Time
	dropped bool
}

// markSet is the marks of an engine, oldest first.
type markSet struct {
	mu     sync.Mutex
	all    []*mark
	open   sync.WaitGroup // views that are not closed yet
	change chan struct{}  // closed when a mark has come
}

// markToken tells whether a record is a mark.
func markToken(args [][]byte) (token string, ok bool) {
	if len(args) != 2 || len(args[0]) != 4 || !strings.EqualFold(string(args[0]), "PING") {
		return "", false
	}
	return strings.CutPrefix(string(args[1]), markPrefix)
}

// Mark puts a mark into the stream and waits until its view is there. Primary only.
func (e *Engine) Mark(ctx context.Context) (token string, off wal.Offset, err error) {
	if e.replica.Load() {
		return "", 0, ErrMarkReplica
	}
	m := e.marks.add(e.newID()[:16], e.now())
	if err := e.takeMark(ctx, m, func() error {
		// Asked again under the lock: the wait for a checkpoint may have been long enough for a REPLICAOF (R1).
		if e.replica.Load() {
			return ErrMarkReplica
		}
		if msg := e.refuse.Load(); msg != nil {
			return errors.New(*msg)
		}
		e.buf = wal.AppendCommand(e.buf, []byte("PING"), []byte(markPrefix+m.token))
		return nil
	}, nil); err != nil {
		return "", 0, err
	}
	return m.token, m.view.Meta().C, nil
}

// markHere makes the mark that the newest record of the stream is. It returns when the data are handed over: what follows in the
// stream is not in the view. A checkpoint that runs is waited for first; if ctx ends meanwhile there is no mark, should the stream
// go on. REQUIRES: streamMu.
func (e *Engine) markHere(ctx context.Context, token string) {
	m := e.marks.add(token, e.now())
	e.mu.Lock()
	at := e.EndLocked()
	e.mu.Unlock()
	before := func() error {
		if e.EndLocked() != at {
			return errMarkPassed
		}
		return nil
	}
	handed := make(chan struct{})
	var once sync.Once
	done := func() { once.Do(func() { close(handed) }) }
	e.wg.Go(func() {
		defer done()
		if err := e.takeMark(e.background, m, before, done); err != nil && e.background.Err() == nil {
			e.logger.Warn("a mark of the primary's could not be taken", "error", err)
		}
	})
	select {
	case <-handed:
	case <-ctx.Done():
	}
}

// takeMark takes the checkpoint of a mark.
func (e *Engine) takeMark(ctx context.Context, m *mark, before func() error, handed func()) error {
	pass := &checkpointPass{e: e, before: before, handed: handed}
	pass.after = func() (err error) {
		m.id = e.ReplID()
		if m.view, err = e.rows.gate.view(); err == nil && m.view.Meta().C != pass.at {
			err = errors.Join(fmt.Errorf("the store stands at %d, not at %d", m.view.Meta().C, pass.at), m.view.Close())
			m.view = nil
		}
		if m.view != nil {
			e.marks.open.Add(1)
		}
		return err
	}
	m.err = e.checkpoint(ctx, 0, pass)
	close(m.ready)
	if m.err != nil {
		e.marks.remove(m)
	}
	return m.err
}

// MarkView returns the data at a mark, for which it waits until ctx ends. The caller releases it.
func (e *Engine) MarkView(ctx context.Context, token string) (*MarkView, error) {
	m, err := e.marks.await(ctx, token)
	if err != nil {
		return nil, err
	}
	select {
	case <-m.ready:
	default:
		select {
		case <-m.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	if !e.marks.use(m, e.now()) {
		return nil, ErrNoMark
	}
	meta := m.view.Meta()
	return &MarkView{Offset: meta.C, ReplID: m.id, Meta: meta, view: m.view, ctx: m.ctx, set: &e.marks, m: m}, nil
}

// Unmark drops a mark. One that does not exist is as good as dropped.
func (e *Engine) Unmark(token string) {
	e.marks.mu.Lock()
	var found *mark
	for _, m := range e.marks.all {
		if m.token == token {
			found = m
		}
	}
	e.marks.mu.Unlock()
	if found != nil {
		e.marks.remove(found)
	}
}

// Release ends the use of a view.
func (v *MarkView) Release() { v.set.leave(v.m) }

func (s *markSet) add(token string, now time.Time) *mark {
	m := &mark{token: token, ready: make(chan struct{}), used: now}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	var old []*mark
	if n := len(s.all) - marksKept + 1; n > 0 {
		old = append(old, s.all[:n]...)
	}
	s.all = append(s.all, m)
	if s.change != nil {
		close(s.change)
		s.change = nil
	}
	s.mu.Unlock()
	for _, o := range old {
		s.remove(o)
	}
	return m
}

// await waits for a mark to come.
func (s *markSet) await(ctx context.Context, token string) (*mark, error) {
	for {
		s.mu.Lock()
		for _, m := range s.all {
			if m.token == token {
				s.mu.Unlock()
				return m, nil
			}
		}
		if s.change == nil {
			s.change = make(chan struct{})
		}
		change := s.change
		s.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return nil, ErrNoMark
		}
	}
}

// use notes a user of m; false if it has been dropped.
func (s *markSet) use(m *mark, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.dropped {
		return false
	}
	m.users++
	m.used = now
	return true
}

func (s *markSet) leave(m *mark) {
	s.mu.Lock()
	m.users--
	last := m.dropped && m.users == 0
	s.mu.Unlock()
	if last {
		s.close(m)
	}
}

// remove drops m: whoever uses it is told to stop, and the last one closes the view.
func (s *markSet) remove(m *mark) {
	s.mu.Lock()
	if m.dropped {
		s.mu.Unlock()
		return
	}
	m.dropped = true
	for i, o := range s.all {
		if o == m {
			s.all = append(s.all[:i:i], s.all[i+1:]...)
			break
		}
	}
	free := m.users == 0
	s.mu.Unlock()
	m.cancel()
	if free {
		s.close(m)
	}
}

// close releases the view, once it is there.
func (s *markSet) close(m *mark) {
	free := func() {
		if m.view != nil {
			_ = m.view.Close() // only read
			s.open.Done()
		}
	}
	select {
	case <-m.ready:
		free()
	default:
		go func() { <-m.ready; free() }()
	}
}

// expire drops the marks that nobody has asked for in a while.
func (s *markSet) expire(now time.Time) {
	s.mu.Lock()
	var old []*mark
	for _, m := range s.all {
		if m.users == 0 && now.Sub(m.used) > markTime {
			old = append(old, m)
		}
	}
	s.mu.Unlock()
	for _, m := range old {
		s.remove(m)
	}
}

// drop drops all marks: the store is going to be closed or replaced. Those that are being read end soon.
func (s *markSet) drop() {
	s.mu.Lock()
	all := append([]*mark(nil), s.all...)
	s.mu.Unlock()
	for _, m := range all {
		s.remove(m)
	}
}

// end drops all marks and waits until nobody reads one. REQUIRES: no more are made.
func (s *markSet) end() {
	s.drop()
	s.open.Wait()
}

// Plant runs a write command here and nowhere else: it enters neither the log nor any replica. It is for trying out what finds such
// differences, and breaks S3 on purpose.
func (e *Engine) Plant(db int, args [][]byte) error {
	e.Lock()
	defer e.Unlock()
	r := &Replayer{e: e, db: db}
	if spec, err := r.spec(args); err != nil || spec == nil {
		return errors.Join(err, errors.New("not a command that changes data"))
	}
	return r.apply(args)
}
