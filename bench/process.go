package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// Kind is the name of a server that is measured: one of these two, or one that -server has named.
type Kind string

// The servers that this package knows how to start.
const (
	Holdfast Kind = "holdfast"
	Redis    Kind = "redis"
)

// Spec describes a server to start.
type Spec struct {
	Kind   Kind
	Binary string   // path or name of the program; "" = this program for Holdfast, redis-server for Redis
	Dir    string   // data directory, must exist; the process's output goes to Dir + ".log", appended
	Addr   string   // loopback address, for a server that comes back where it was; "" = a free one
	Args   []string // directives, as --name value
	// Command starts the server instead, if not empty: words for the shell, in which {port}, {dir} and {policy} (appendfsync's) are
	// replaced. Args are not passed then.
	Command string
	Policy  string // for {policy} in Command; "" = everysec
}

// startLimit is how long a server may take until it answers: a restart from a long log of Redis takes tens of seconds on a
// slow disk, a hung server must not hang CI.
const startLimit = 5 * time.Minute

// stopLimit is how long a server may take to end after SIGTERM, its last checkpoint included.
const stopLimit = 2 * time.Minute

// stopAgain is how long it takes before SIGTERM is repeated.
const stopAgain = 5 * time.Second

// Process is a running server on a loopback port.
type Process struct {
	Spec    Spec
	Addr    string
	Started time.Time // taken right before the process was started

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended; err is set before
	err  error
}

// FreeAddr returns a loopback address whose port the kernel has just chosen. It is free at the moment only.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	return addr, l.Close()
}

// Launch starts a server and returns at once, before it answers.
func Launch(spec Spec) (*Process, error) {
	addr := spec.Addr
	if addr == "" {
		var err error
		if addr, err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(spec.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own descriptor
	bin, args, err := commandLine(spec, port)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = out, out
	p := &Process{Spec: spec, Addr: addr, cmd: cmd, done: make(chan struct{}), Started: time.Now()}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// commandLine returns the program and all its arguments.
func commandLine(spec Spec, port string) (string, []string, error) {
	own := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", spec.Dir}, spec.Args...)
	switch {
	case spec.Command != "":
		// By exec the server has the pid that we know, so that signals reach it and not the shell.
		return "/bin/sh", []string{"-c", "exec " + strings.NewReplacer("{port}", port, "{dir}", shellQuote(spec.Dir),
			"{policy}", cmp.Or(spec.Policy, "everysec")).Replace(spec.Command)}, nil
	case spec.Kind == Holdfast:
		bin, err := holdfastProgram(spec)
		return bin, append([]string{"serve"}, own...), err
	case spec.Kind == result.NullServer:
		bin, err := os.Executable()
		return bin, append([]string{"bench", "null", "-bind", "127.0.0.1", "-port", port}, spec.Args...), err
	case spec.Kind == Redis:
		// A snapshot by time would run in the middle of a measurement.
		return cmp.Or(spec.Binary, "redis-server"), append([]string{"--save", ""}, own...), nil
	}
	return "", nil, fmt.Errorf("unknown kind of server %q", spec.Kind)
}

// holdfastProgram is what to run for a Holdfast, and to look at its data: this program, if none is named.
func holdfastProgram(spec Spec) (string, error) {
	if spec.Binary != "" {
		return spec.Binary, nil
	}
	return os.Executable()
}

// shellQuote makes one word of the shell of a text.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Start launches a server and waits until it answers. A port that somebody took between FreeAddr and the server's listen is
// tried again with another.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	const tries = 5
	for try := 1; ; try++ {
		p, err := Launch(spec)
		if err != nil {
			return nil, err
		}
		if err = p.WaitReady(ctx); err == nil {
			return p, nil
		}
		if kerr := p.Kill(); kerr != nil {
			return nil, errors.Join(err, kerr)
		}
		if try == tries || !strings.Contains(strings.ToLower(err.Error()), "in use") && !strings.Contains(err.Error(), "is taken") {
			return nil, err
		}
	}
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// WaitReady waits until the server answers PING with PONG; an error has the end of the server's output.
func (p *Process) WaitReady(ctx context.Context) error {
	return p.WaitFor(ctx, func(c *Client) (bool, error) {
		r, err := c.Do("PING")
		return err == nil && r.Kind == '+', err
	})
}

// WaitFor connects and asks until ask returns true, the process ends or startLimit has passed. Errors of ask and of the
// connection count as "not yet".
func (p *Process) WaitFor(ctx context.Context, ask func(*Client) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var c *Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	last := errors.New("no answer")
	for {
		if c == nil {
			var err error
			if c, err = Dial(p.Addr); err != nil {
				last = err
			}
		}
		if c != nil {
			ok, err := ask(c)
			if ok && err == nil {
				return nil
			}
			if err != nil {
				c.Close()
				c, last = nil, err
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended before it answered: %v; its output ends with: %s", p.Spec.Kind, p.err, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w (last: %v); its output ends with: %s", p.Spec.Kind, ctx.Err(), last, p.logTail())
		}
	}
}

// logTail is the end of the server's output.
func (p *Process) logTail() string {
	b, err := os.ReadFile(p.Spec.Dir + ".log")
	if err != nil {
		return err.Error()
	}
	const tail = 1500
	if len(b) > tail {
		b = b[len(b)-tail:]
	}
	return strings.TrimSpace(string(b))
}

// Kill ends the process as a power switch would for a process: SIGKILL. Nil if it has ended already.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}

// Stop ends the process in order (SIGTERM) and returns its exit as an error if it was not 0. It asks again and again, as an
// operator would: while redis-server writes its first AOF after a full sync, it drops the request ("Writing initial AOF. Can't
// exit.").
func (p *Process) Stop() error {
	again := time.NewTicker(stopAgain)
	defer again.Stop()
	t := time.NewTimer(stopLimit)
	defer t.Stop()
	for ended := false; !ended; {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-p.done:
			ended = true
		case <-again.C:
		case <-t.C:
			return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM; its output ends with: %s", p.Spec.Kind, stopLimit, p.logTail()), p.Kill())
		}
	}
	if p.err != nil {
		return fmt.Errorf("%s after SIGTERM: %w; its output ends with: %s", p.Spec.Kind, p.err, p.logTail())
	}
	return nil
}

// RSS is the resident set of the process in bytes.
func (p *Process) RSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Pid()))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("statm of %d is %q", p.Pid(), b)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// CPU is the processor time that the process has taken, and its children that have ended.
func (p *Process) CPU() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; the fields behind it are counted from 3 in proc(5).
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const first, utime, cstime = 3, 14, 17
	if len(f) <= cstime-first {
		return 0, fmt.Errorf("stat of %d is %q", p.Pid(), b)
	}
	ticks := int64(0)
	for _, text := range f[utime-first : cstime-first+1] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat of %d: %w", p.Pid(), err)
		}
		ticks += n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all of Go's platforms
	return time.Duration(ticks) * tick, nil
}

// DiskWrites are what the process caused to be written to disks.
type DiskWrites struct {
	Bytes     int64 // pages made dirty and direct writes
	Cancelled int64 // of these, dropped before they were written, because the file was removed
}

// DiskWrites reads /proc/PID/io.
func (p *Process) DiskWrites() (DiskWrites, error) {
	var d DiskWrites
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Pid()))
	if err != nil {
		return d, err
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return d, fmt.Errorf("io of %d: %w", p.Pid(), err)
		}
		switch name {
		case "write_bytes":
			d.Bytes = n
			found++
		case "cancelled_write_bytes":
			d.Cancelled = n
			found++
		}
	}
	if found != 2 {
		return d, fmt.Errorf("io of %d is %q", p.Pid(), b)
	}
	return d, nil
}

// Info returns the fields of INFO everything (and of our own section), by name.
func (p *Process) Info() (map[string]string, error) {
	c, err := Dial(p.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Info()
}
