package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watchEvery is how often memory is looked at: a child that lives shorter than this is missed, and a child that writes a
// snapshot lives for seconds.
const watchEvery = 100 * time.Millisecond

// memWatch notes the most memory that a process and its children had.
type memWatch struct {
	stop context.CancelFunc
	done chan struct{}

	mu struct {
		sync.Mutex
		most int64
		err  error
	}
}

// watchMemory begins to watch a process, which must live until the watch is stopped.
func watchMemory(p *Process) *memWatch { return watchMemoryEvery(p, watchEvery) }

func watchMemoryEvery(p *Process, every time.Duration) *memWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &memWatch{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			w.look(p)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

func (w *memWatch) look(p *Process) {
	n, err := p.Memory()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.most = max(w.mu.most, n)
	w.mu.err = errors.Join(w.mu.err, err)
}

// Cut returns the most bytes seen since the last Cut or the start, this moment included.
func (w *memWatch) Cut(p *Process) (int64, error) {
	w.look(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	most := w.mu.most
	w.mu.most = 0
	return most, w.mu.err
}

// Stop ends the watch.
func (w *memWatch) Stop() {
	w.stop()
	<-w.done
}

// Memory is what the process takes, in bytes: its resident set, or, while it has children, its and their proportional sets: pages
// that a fork shares are then counted once.
func (p *Process) Memory() (int64, error) {
	children, err := childrenOf(p.Pid())
	if err != nil {
		return 0, err
	}
	sum, found := int64(0), false
	for _, pid := range children {
		n, err := proportional(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum, found = sum+n, true
	}
	if !found {
		return p.RSS()
	}
	own, err := proportional(p.Pid())
	return sum + own, err
}

// gone says that a process ended while we looked at it.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// childrenOf lists the processes that pid has forked and that have not been waited for.
func childrenOf(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	if len(tasks) == 0 {
		return nil, fmt.Errorf("process %d has ended, or the kernel does not list children", pid)
	}
	var pids []int
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if gone(err) {
			continue // a thread ended
		}
		if err != nil {
			return nil, err
		}
		for f := range strings.FieldsSeq(string(b)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t, err)
			}
			pids = append(pids, n)
		}
	}
	return pids, nil
}

// proportional is the proportional set size of a process in bytes.
func proportional(pid int) (int64, error) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if text, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(text)), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			return n << 10, nil
		}
	}
	return 0, fmt.Errorf("%s of %d bytes has no Pss: %w", name, len(b), fs.ErrNotExist) // a zombie's is empty
}
