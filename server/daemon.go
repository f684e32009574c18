package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// daemonize yes: the process starts itself a second time, in a session of its own and without a terminal, and ends when that one
// serves, or says why it does not. (Redis's parent ends at once, and what its child cannot do is in the log at best.)

// daemonEnv tells a process that it is the second one: the pipe to the first is its descriptor daemonFD.
const (
	daemonEnv = "HOLDFAST_DAEMON"
	daemonFD  = 3
	// daemonReady is what goes through the pipe when the server serves; before it, what an operator must read.
	daemonReady = "\x06"
)

// startDaemon runs this program again in the background. It returns the exit status.
func startDaemon(stderr io.Writer) int {
	err := func() error {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		r, w, err := os.Pipe()
		if err != nil {
			return errors.Join(err, null.Close())
		}
		cmd := exec.Command(exe, os.Args[1:]...)
		cmd.Env = append(os.Environ(), daemonEnv+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = null, null, null, []*os.File{w}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		err = cmd.Start()
		if err = errors.Join(err, w.Close(), null.Close()); err != nil {
			return errors.Join(err, r.Close())
		}
		said, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		text, ready := bytes.CutSuffix(said, []byte(daemonReady))
		if _, err := stderr.Write(text); err != nil || ready {
			return err
		}
		if err := cmd.Wait(); err != nil && len(text) == 0 {
			return err
		}
		return errNotStarted
	}()
	switch {
	case errors.Is(err, errNotStarted): // why has been said
		return 1
	case err != nil:
		fmt.Fprintln(stderr, "holdfast: start in the background:", err)
		return 1
	}
	return 0
}

var errNotStarted = errors.New("not started")

// daemonPipe returns the pipe to the first process; nil if this is no second one.
func daemonPipe() *os.File {
	if os.Getenv(daemonEnv) == "" {
		return nil
	}
	_ = os.Unsetenv(daemonEnv) // for what this process starts; the name is a valid one
	syscall.CloseOnExec(daemonFD)
	return os.NewFile(daemonFD, "daemon")
}

// ready tells the first process, if there is one, that the server serves.
func (p *process) ready() error {
	if p.daemon == nil {
		return nil
	}
	_, err := p.daemon.WriteString(daemonReady)
	return errors.Join(err, p.daemon.Close())
}
