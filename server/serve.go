package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/server/engine"
)

// Serve is a server process from its arguments to its exit status: [CONFIG] [--directive value …]. SIGTERM and SIGINT
// end it in order (stop accepting, finish, checkpoint); then SIGINT ends it at once with status 1. What goes wrong
// before the log is open is one line on stderr.
func Serve(args []string, stderr io.Writer) int {
	cfg, err := ParseArgs(args)
	if err != nil {
		fmt.Fprintln(stderr, "\n"+strings.TrimPrefix(err.Error(), "\n"))
		return 1
	}
	p := &process{cfg: cfg, stderr: stderr, daemon: daemonPipe()}
	switch {
	case p.daemon != nil:
		p.stderr = p.daemon
	case cfg.Bool("daemonize") && !cfg.underManager():
		if len(args) > 0 && args[0] == "-" {
			fmt.Fprintln(stderr, "holdfast: daemonize yes takes a configuration file, not standard input")
			return 1
		}
		return startDaemon(stderr)
	}
	defer p.cleanup()
	if err := p.prepare(); err != nil {
		fmt.Fprintln(p.stderr, "holdfast: "+err.Error())
		return 1
	}
	return p.run()
}

// ParseArgs makes a configuration from [CONFIG] [--directive value …].
func ParseArgs(args []string) (*Config, error) {
	cfg := NewConfig()
	if len(args) > 0 && (args[0] == "-" || !strings.HasPrefix(args[0], "-")) {
		if err := cfg.LoadFile(args[0]); err != nil {
			return nil, err
		}
		args = args[1:]
	}
	if err := cfg.LoadFlags(args); err != nil {
		return nil, err
	}
	return cfg, nil
}

// process is what surrounds a server: its log, its pid file, signals.
type process struct {
	cfg     *Config
	stderr  io.Writer
	log     hclog.Logger
	logFile *os.File
	pidFile string
	daemon  *os.File // to the process that waits for this one to serve; nil: none does
}

func (p *process) prepare() error {
	out := p.stderr
	if p.daemon != nil {
		out = io.Discard // there is no terminal
	}
	if name := p.cfg.Text("logfile"); name != "" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("log file: %w", err)
		}
		p.logFile, out = f, f
	}
	p.log = hclog.New(&hclog.LoggerOptions{Name: "holdfast", Output: out, Level: logLevels[p.cfg.Text("loglevel")],
		TimeFormat: "2006-01-02T15:04:05.000Z0700", Mutex: new(sync.Mutex)})
	return nil
}

func (p *process) run() int {
	p.limitMemory()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)

	p.log.Info("holdfast starting", "version", Version, "redis-version", redisVersion, "pid", os.Getpid(),
		"config-file", p.cfg.File())
	s, err := Start(context.Background(), Options{Config: p.cfg, Logger: p.log})
	if err != nil {
		fmt.Fprintln(p.stderr, "holdfast: "+startError(p.cfg, err))
		return 1
	}
	pacing, stopPacing := context.WithCancel(context.Background())
	defer stopPacing()
	go paceGarbage(pacing)
	if err := p.writePid(); err != nil {
		p.log.Warn("pid file not written", "error", err)
	}
	if err := p.notify("READY=1"); err != nil {
		p.log.Warn("service manager not told", "error", err)
	}
	if err := p.ready(); err != nil {
		p.log.Warn("the process that started this one not told", "error", err)
	}

	checkpoint := true
	select {
	case sig := <-signals:
		p.log.Info("signal received, shutting down", "signal", sig.String())
	case o := <-s.ShutdownAsked():
		checkpoint = !o.noSave
	}
	if err := p.notify("STOPPING=1"); err != nil {
		p.log.Warn("service manager not told", "error", err)
	}
	ctx, cancel := s.shutdownContext()
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- s.close(ctx, checkpoint) }()
	for {
		select {
		case err := <-closed:
			if err != nil {
				return 1
			}
			return 0
		case sig := <-signals:
			if sig == os.Interrupt { // as Redis: who insists at a terminal need not wait
				p.log.Warn("second signal, ending at once", "signal", sig.String())
				return 1
			}
			p.log.Info("shutting down already", "signal", sig.String())
		}
	}
}

// startError says in one line what an operator has to know.
func startError(cfg *Config, err error) string {
	var op *net.OpError
	var listening *listenError
	switch {
	case errors.Is(err, engine.ErrLocked):
		return fmt.Sprintf("data directory %s is in use by another process", cfg.Text("dir"))
	case errors.As(err, &listening) && errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("%s is taken by another process (%v)", listening.what, firstLine(err))
	case errors.As(err, &op):
		return firstLine(err)
	}
	return firstLine(err)
}

func firstLine(err error) string { return strings.Join(strings.Split(err.Error(), "\n"), "; ") }

func (p *process) writePid() error {
	name := p.cfg.Text("pidfile")
	if name == "" {
		return nil
	}
	if err := os.WriteFile(name, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return err
	}
	p.pidFile = name
	return nil
}

// underManager tells whether systemd started this process and wants to hear of it.
func (c *Config) underManager() bool {
	s := c.Text("supervised")
	return (s == "systemd" || s == "auto") && os.Getenv("NOTIFY_SOCKET") != ""
}

// notify tells systemd about the state of the service, if it wants to know.
func (p *process) notify(state string) error {
	if !p.cfg.underManager() {
		return nil
	}
	name := os.Getenv("NOTIFY_SOCKET")
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}

func (p *process) cleanup() {
	if p.pidFile != "" {
		if err := os.Remove(p.pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.log.Warn("pid file not removed", "error", err)
		}
	}
	if p.logFile != nil {
		if err := p.logFile.Close(); err != nil {
			fmt.Fprintln(p.stderr, "holdfast: log file:", err)
		}
	}
}

// VersionLine says which version this is and of which Redis it shows the behaviour.
func VersionLine() string {
	return fmt.Sprintf("Holdfast %s (Redis %s) build %s %s/%s", Version, redisVersion, buildID(), runtime.GOOS, runtime.GOARCH)
}
