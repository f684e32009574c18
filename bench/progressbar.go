package bench

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// redrawEvery is how often the bar is drawn anew while a step runs, so that the time left counts down. A terminal's worth of bytes
// twice a second costs the measured servers nothing.
const redrawEvery = 500 * time.Millisecond

// Control sequences of a terminal: back to the line's begin, and away with what stands there.
const clearLine = "\r\x1b[K"

// bar shows progress in the last line of a terminal. What is written to it scrolls past above. It draws only where a line begins, so
// that a text written in pieces is not cut.
type bar struct {
	columns func() int
	now     func() time.Time

	mu struct {
		sync.Mutex
		out       io.Writer
		remaining remaining
		label     string
		active    bool // between Begin and End
		drawn     bool // the bar stands on the last line
		inLine    bool // what was written last has not ended its line
		stop      chan struct{}
		stopped   chan struct{}
	}
}

func newBar(out io.Writer, columns func() int, now func() time.Time) *bar {
	b := &bar{columns: columns, now: now}
	b.mu.out = out
	return b
}

func (b *bar) Begin(steps int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.remaining.steps = steps
	if !b.mu.active {
		b.mu.active = true
		b.mu.stop, b.mu.stopped = make(chan struct{}), make(chan struct{})
		go b.redraw(b.mu.stop, b.mu.stopped)
	}
	b.drawLocked()
}

// redraw draws until stop is closed.
func (b *bar) redraw(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	t := time.NewTicker(redrawEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			b.mu.Lock()
			b.drawLocked()
			b.mu.Unlock()
		}
	}
}

func (b *bar) Step(label string, estimate time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.remaining.begin(b.now(), estimate)
	b.mu.label = label
	b.drawLocked()
}

func (b *bar) Printf(format string, args ...any) { fmt.Fprintf(b, format, args...) }

// Write puts text above the bar.
func (b *bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if err := b.clearLocked(); err != nil {
		return 0, err
	}
	n, err := b.mu.out.Write(p)
	if n > 0 {
		b.mu.inLine = p[n-1] != '\n'
	}
	b.drawLocked()
	return n, err
}

// End takes the bar away.
func (b *bar) End() {
	b.mu.Lock()
	stopped := b.mu.stopped
	if b.mu.active {
		b.mu.active = false
		close(b.mu.stop)
	}
	// An error of the terminal is met again by whoever writes the report to it.
	_ = b.clearLocked()
	b.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
}

func (b *bar) clearLocked() error {
	if !b.mu.drawn {
		return nil
	}
	b.mu.drawn = false
	_, err := io.WriteString(b.mu.out, clearLine)
	return err
}

func (b *bar) drawLocked() {
	if !b.mu.active || b.mu.inLine {
		return
	}
	// The last column stays empty: some terminals break the line there.
	text := b.mu.remaining.render(b.mu.label, b.now(), b.columns()-1)
	if _, err := io.WriteString(b.mu.out, clearLine+text); err == nil {
		b.mu.drawn = true
	}
}

// remaining knows how far a run is and guesses the rest: the steps' own estimates, scaled by how long those that ended really took.
type remaining struct {
	step, steps int
	started     time.Time     // of the first step
	current     time.Time     // begin of the step that runs
	estimate    time.Duration // of the step that runs; 0 = unknown
	took        time.Duration // all steps that have ended
	guessed     time.Duration // the estimates of those that had one
	tookGuessed time.Duration // what those took
}

// begin ends the running step and begins the next.
func (r *remaining) begin(now time.Time, estimate time.Duration) {
	if r.step == 0 {
		r.started = now
	} else {
		took := now.Sub(r.current)
		r.took += took
		if r.estimate > 0 {
			r.guessed += r.estimate
			r.tookGuessed += took
		}
	}
	r.step++
	r.current, r.estimate = now, estimate
}

// left guesses the time until the end; false if nothing is known yet. Of the steps that have not begun nothing is known but how many
// they are: each is taken to be as long as the others were on average, or, in the first, as long as that one.
func (r *remaining) left(now time.Time) (time.Duration, bool) {
	if r.step == 0 {
		return 0, false
	}
	scale := 1.0
	if r.guessed > 0 {
		scale = float64(r.tookGuessed) / float64(r.guessed)
	}
	current := time.Duration(float64(r.estimate) * scale)
	each := current
	if ended := r.step - 1; ended > 0 {
		each = r.took / time.Duration(ended)
		if current == 0 {
			current = each
		}
	}
	if current == 0 {
		return 0, false
	}
	return max(current-now.Sub(r.current), 0) + each*time.Duration(max(r.steps-r.step, 0)), true
}

// done is the share of the run that is behind, by time.
func (r *remaining) done(now time.Time) float64 {
	left, ok := r.left(now)
	if !ok || r.step == 0 {
		return 0
	}
	spent := now.Sub(r.started)
	if spent+left <= 0 {
		return 0
	}
	return float64(spent) / float64(spent+left)
}

// barWidth is how many characters the bar itself has, and leastLabel how many must be left for the label to be worth showing it.
const (
	barWidth   = 24
	leastLabel = 12
)

// render makes the line, of at most columns characters.
func (r *remaining) render(label string, now time.Time, columns int) string {
	left, known := r.left(now)
	time := "time left unknown"
	if known {
		time = "about " + clock(left) + " left"
	}
	head := fmt.Sprintf("%d/%d  %s  ", r.step, max(r.steps, r.step), time)
	if columns >= barWidth+3+len(head)+leastLabel {
		filled := int(r.done(now)*barWidth + 0.5)
		head = "[" + strings.Repeat("=", filled) + strings.Repeat(" ", barWidth-filled) + "] " + head
	}
	text := []rune(head + label)
	if len(text) > max(columns, 0) {
		text = text[:max(columns, 0)]
	}
	return string(text)
}

// clock writes a time as minutes and seconds: 4:05.
func clock(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
