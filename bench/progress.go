package bench

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Progress is told of the steps of a run. Its methods are called by one goroutine.
type Progress interface {
	Begin(steps int)                           // how many steps there will be; again where more are found
	Step(label string, estimate time.Duration) // a step begins; estimate 0 = unknown
	Printf(format string, args ...any)         // a line for whoever watches
	End()                                      // all is done, or the run is given up
}

// newProgress shows progress on out: as a bar in its last line if it is a terminal, else as a line for each step. What else goes to
// the same terminal must be written to the writer that it returns, so that it stands above the bar.
func newProgress(out io.Writer) (Progress, io.Writer) {
	f, ok := out.(*os.File)
	if !ok {
		return &lines{out: out}, out
	}
	columns := func() int {
		size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return 0
		}
		return int(size.Col)
	}
	if columns() == 0 {
		return &lines{out: out}, out
	}
	b := newBar(out, columns, time.Now)
	return b, b
}

// lines prints a line for each step.
type lines struct {
	out         io.Writer
	started     time.Time
	step, steps int
}

func (l *lines) Begin(steps int) {
	if l.steps == 0 {
		l.started = time.Now()
	}
	l.steps = steps
}

func (l *lines) Step(label string, _ time.Duration) {
	l.step++
	fmt.Fprintf(l.out, "[%d/%d %4.0fs] %s\n", l.step, l.steps, time.Since(l.started).Seconds(), label)
}

func (l *lines) Printf(format string, args ...any) { fmt.Fprintf(l.out, format, args...) }

func (l *lines) End() {}
