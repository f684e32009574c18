// Package server is the process: it listens, frames requests, runs sessions, and owns the engine's life.
//
// Goroutines: the event loops and connection goroutines of Network (network.go), the cron of this file (ends with Close),
// a checkpoint asked for by BGSAVE (ends with Close). Lock order: Server.configSet, then the engine's executor lock, then
// the locks of clients, stats, slowlog, latency, monitors and pause, of which nobody holds two.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/engine"
	"github.com/holdfast-db/holdfast/server/keyspace"
	"github.com/holdfast-db/holdfast/server/pubsub"
	"github.com/holdfast-db/holdfast/wal"
)

// Version is this program's.
const Version = "0.1.0"

// redisVersion is the version of Redis whose behaviour clients find here.
const redisVersion = "7.0.15"

// Options are what a server starts from.
type Options struct {
	Config *Config
	Logger hclog.Logger // nil: nothing is logged
	// AnyPort listens on a port that the kernel chooses, whatever port says.
	AnyPort bool
	// Engine may change what the configuration says of the engine: tests give it a file system and a clock.
	Engine func(*engine.Options)
}

// Server owns the life of a server's components. Each has its own file and lock.
type Server struct {
	cfg       *Config
	configSet struct {
		sync.Mutex      // one CONFIG SET at a time
		inside     bool // it runs within a transaction: the executor lock is held
	}
	log       hclog.Logger
	eng       *engine.Engine
	network   *Network
	table     *command.Table
	names     *nameTable
	handlers  []sessionHandler
	databases int
	anyPort   bool

	clients     clientRegistry
	stats       *commandStats
	slowlog     slowlog
	latency     latencyMonitor
	monitorHub  monitorHub
	hub         *pubsub.Hub
	pause       pauseGate
	tracker     *tracker
	diskWatch   diskWatch
	rates       rates
	links       linkRegistry
	primaryLink primaryLink
	repl        roleState
	verifying   verifyState

	// replicasAttached tells whether somebody reads the stream: only then do messages enter it, so that nobody's disk pays
	// for them otherwise. nil: nobody ever. It may be called under the executor's lock.
	replicasAttached func() bool

	// kickDue says that something was appended to the log in this turn of an event loop.
	kickDue   atomic.Bool
	logFailed atomic.Bool // the log has failed for good: no reply that depends on new writes leaves (A2)

	password atomic.Pointer[string]
	tls      atomic.Pointer[tls.Config]
	reset    atomic.Pointer[netCounters] // what CONFIG RESETSTAT subtracts

	started   time.Time
	startHeap int64

	httpWarned atomic.Int64 // when a connection that spoke HTTP was last warned of, by monotonic; 0 = never
	peak       atomic.Int64

	background struct {
		sync.Mutex
		checkpoint bool // one asked for by a client runs
		again      bool // and another is wanted after it
	}
	stop     context.CancelFunc
	ctx      context.Context
	wg       sync.WaitGroup
	shutdown chan shutdownOptions
	closing  sync.Once
	closeErr error
}

// batchEnd ends a turn of an event loop: what all its connections wrote shares one sync of the log.
func (s *Server) batchEnd(alone bool) {
	if s.kickDue.Load() && s.kickDue.Swap(false) && !(alone && s.eng.CommitNow()) {
		s.eng.Kick()
	}
}

// Start recovers the data directory and begins to serve. The error is one clear line.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	s := &Server{cfg: o.Config, log: o.Logger.Named("server"), started: time.Now(), anyPort: o.AnyPort,
		shutdown: make(chan shutdownOptions, 1), hub: pubsub.NewHub(command.MatchGlob)}
	if err := s.checkConfig(); err != nil {
		return nil, err
	}
	s.databases = int(s.cfg.Int("databases"))
	if err := s.applyTLS(); err != nil {
		return nil, err
	}
	pass := s.cfg.Text("requirepass")
	s.password.Store(&pass)
	s.reset.Store(&netCounters{})

	var serving atomic.Pointer[Network] // the engine reports offsets before there is a network
	eo := s.engineOptions(o.Logger)
	eo.OnDurable = func(off wal.Offset) {
		if serving.Load() != nil {
			s.release(off)
		}
	}
	eo.OnFailure = func(error) {
		// Replies that wait for what will never be durable must not leave (A2), and nobody should wait for them.
		s.logFailed.Store(true)
		if n := serving.Load(); n != nil {
			n.Each((*Conn).Close)
		}
	}
	eo.OnMessage = s.relay
	if o.Engine != nil {
		o.Engine(&eo)
	}
	eng, err := engine.Open(eo)
	if err != nil {
		return nil, err
	}
	s.eng, s.table = eng, eng.Table()
	s.handlers = bindHandlers(s.table, sessionHandlers())
	s.stats = newCommandStats(s.table.Count())
	s.tracker = newTracker(s)
	eng.Lock()
	eng.SetEvents(command.Events(s.cfg.Int("notify-keyspace-events")))
	eng.Unlock()
	fail := func(err error) (*Server, error) { return nil, errors.Join(err, eng.Close(ctx)) }
	if s.names, err = newNameTable(s.table, s.cfg.Renames()); err != nil {
		return fail(err)
	}
	if err := s.applyStats(); err != nil {
		return fail(err)
	}
	s.startHeap = readMemory().heap
	s.diskWatch.usage, s.diskWatch.holders, s.diskWatch.log = eng.DiskUsage, eng.LogHolders, s.log
	s.ctx, s.stop = context.WithCancel(context.Background())

	s.network = NewNetwork(s.networkConfig(o.Logger))
	s.newReplication(o.Logger)
	serving.Store(s.network)
	s.release(eng.Log().Durable())
	if err := s.serveProfiles(s.ctx); err != nil {
		s.log.Warn("profiles are not served", "error", err)
	}
	if err := s.network.Start(ctx); err != nil {
		s.stop()
		s.repl.primary.Close()
		return fail(err)
	}
	s.startReplication()
	s.wg.Go(s.cron)
	s.wg.Go(s.verifyLoop)
	s.logStart()
	return s, nil
}

// checkConfig refuses what would be accepted in name only.
func (s *Server) checkConfig() error {
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{!s.cfg.Bool("replica-read-only"), "replica-read-only no is not supported: a replica's log is its primary's, byte for byte"},
		{s.cfg.Text("aclfile") != "", "aclfile is not supported: there is one user, default, with requirepass"},
		{s.cfg.Bool("cluster-enabled"), "cluster-enabled yes is not supported"},
		{s.cfg.Int("port") == 0 && s.cfg.Int("tls-port") == 0 && s.cfg.Text("unixsocket") == "" && !s.anyPort,
			"nothing to listen on: port, tls-port and unixsocket are all off"},
	} {
		if c.bad {
			return errors.New(c.text)
		}
	}
	return nil
}

var fsyncPolicies = map[string]wal.Policy{"always": wal.Always, "everysec": wal.EverySec, "no": wal.No}

func (s *Server) engineOptions(log hclog.Logger) engine.Options {
	limits := keyspace.DefaultLimits()
	s.setLimits(&limits)
	conf := command.DefaultConfig()
	s.setCommandConfig(&conf)
	return engine.Options{
		Dir: s.cfg.Text("dir"), Logger: log, Fsync: fsyncPolicies[s.cfg.Text("appendfsync")],
		Databases: s.databases, Limits: &limits, Command: &conf, Role: s.decideRole,
		MaxMemory:          s.cfg.Int("maxmemory"),
		Overrun:            heapOverrun,
		NoPreload:          !s.cfg.Bool("preload-on-start"),
		CheckpointLogBytes: s.cfg.Int("checkpoint-log-bytes"),
		CheckpointInterval: s.checkpointInterval(),
		DirtyBytes:         s.cfg.Int("dirty-bytes-limit"),
		RetainBytes:        s.cfg.Int("repl-log-max-bytes"),
		RetainAge:          s.retainAge(),
		SlotMaxBytes:       s.cfg.Int("repl-slot-max-bytes"),
	}
}

func (s *Server) checkpointInterval() time.Duration {
	if n := s.cfg.Int("checkpoint-interval"); n > 0 {
		return time.Duration(n) * time.Second
	}
	return math.MaxInt64 // 0: never by time
}

func (s *Server) setLimits(l *keyspace.Limits) {
	n := func(name string) int { return int(min(s.cfg.Int(name), math.MaxInt32)) }
	l.HashMaxListpackEntries = n("hash-max-listpack-entries")
	l.HashMaxListpackValue = n("hash-max-listpack-value")
	l.SetMaxIntsetEntries = n("set-max-intset-entries")
	l.ZSetMaxListpackEntries = n("zset-max-listpack-entries")
	l.ZSetMaxListpackValue = n("zset-max-listpack-value")
	l.ListMaxListpackSize = n("list-max-listpack-size")
}

func (s *Server) setCommandConfig(c *command.Config) {
	c.ProtoMaxBulkLen = s.cfg.Int("proto-max-bulk-len")
	c.MaxMemoryPolicy = s.cfg.Text("maxmemory-policy")
	c.LazyfreeUserDel = s.cfg.Bool("lazyfree-lazy-user-del")
	c.LazyfreeExpire = s.cfg.Bool("lazyfree-lazy-expire")
	c.LazyfreeServerDel = s.cfg.Bool("lazyfree-lazy-server-del")
	c.Databases = int(s.cfg.Int("databases"))
	c.LFULogFactor = int(s.cfg.Int("lfu-log-factor"))
	c.LFUDecayTime = int(s.cfg.Int("lfu-decay-time"))
}

// listenConfig is where the configuration says to listen.
func (s *Server) listenConfig() ListenConfig {
	l := ListenConfig{
		Bind: s.cfg.Words("bind"), Port: int(s.cfg.Int("port")), TLSPort: int(s.cfg.Int("tls-port")),
		UnixSocket: s.cfg.Text("unixsocket"), UnixPerm: os.FileMode(s.cfg.Int("unixsocketperm")),
		Backlog: int(s.cfg.Int("tcp-backlog")),
	}
	if s.anyPort {
		l.Port = -1
	}
	if s.tls.Load() != nil {
		// The certificate may be replaced while the server runs.
		l.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.tls.Load(), nil }}
	}
	return l
}

func (s *Server) networkConfig(log hclog.Logger) NetworkConfig {
	return NetworkConfig{
		Listen: s.listenConfig(), Logger: log, Loops: int(s.cfg.Int("io-threads")), Accept: s.newSession, BatchEnd: s.batchEnd,
		ProtectedMode: func() bool { return s.cfg.Bool("protected-mode") && *s.password.Load() == "" },
		MaxClients:    int(s.cfg.Int("maxclients")), IdleTimeout: time.Duration(s.cfg.Int("timeout")) * time.Second,
		KeepAlive: time.Duration(s.cfg.Int("tcp-keepalive")) * time.Second,
		MaxBulk:   s.cfg.Int("proto-max-bulk-len"), MaxBuffer: s.cfg.Int("client-query-buffer-limit"),
		OutputLimits: s.outputLimits(),
	}
}

func (s *Server) outputLimits() (out [numClasses]OutputLimit) {
	l := bufferLimits(s.cfg.Text("client-output-buffer-limit"))
	for i, class := range []ConnClass{ClassNormal, ClassReplica, ClassPubSub} {
		out[class] = OutputLimit{Hard: l[i].hard, Soft: l[i].soft, SoftTime: time.Duration(l[i].softSeconds) * time.Second}
	}
	return out
}

// --- hooks of the configuration table

// applyNetwork makes changed limits of connections take effect.
func (s *Server) applyNetwork() error {
	pass := s.cfg.Text("requirepass")
	s.password.Store(&pass)
	s.network.SetMaxClients(int(s.cfg.Int("maxclients")))
	s.network.SetKeepAlive(time.Duration(s.cfg.Int("tcp-keepalive")) * time.Second)
	s.network.SetIdleTimeout(time.Duration(s.cfg.Int("timeout")) * time.Second)
	s.network.SetInputLimits(s.cfg.Int("proto-max-bulk-len"), s.cfg.Int("client-query-buffer-limit"))
	s.network.SetOutputLimits(s.outputLimits())
	return s.applyEngine()
}

// withEngine runs fn under the executor lock. REQUIRES: configSet.
func (s *Server) withEngine(fn func()) {
	if s.configSet.inside {
		fn()
		return
	}
	s.eng.Lock()
	fn()
	s.eng.Unlock()
}

// applyEngine makes changed settings of the engine and of handlers take effect.
func (s *Server) applyEngine() error {
	s.eng.SetMaxMemory(s.cfg.Int("maxmemory"))
	s.eng.SetCheckpointLogBytes(s.cfg.Int("checkpoint-log-bytes"))
	s.eng.SetCheckpointInterval(s.checkpointInterval())
	s.eng.SetDirtyBytes(s.cfg.Int("dirty-bytes-limit"))
	s.withEngine(func() {
		s.eng.SetFsync(fsyncPolicies[s.cfg.Text("appendfsync")])
		s.eng.SetCommandConfig(s.setCommandConfig)
		s.eng.SetLimits(s.setLimits)
		s.eng.SetEvents(command.Events(s.cfg.Int("notify-keyspace-events")))
	})
	return nil
}

func (s *Server) retainAge() time.Duration {
	return time.Duration(s.cfg.Int("repl-log-max-age")) * time.Second
}

// applyRetention changes how much log is kept. What is too much then goes with the next checkpoint.
func (s *Server) applyRetention() error {
	s.eng.SetRetention(s.cfg.Int("repl-log-max-bytes"), s.retainAge())
	s.eng.SetSlotMaxBytes(s.cfg.Int("repl-slot-max-bytes"))
	return nil
}

// applyStats makes changed settings of observation take effect.
func (s *Server) applyStats() error {
	s.slowlog.configure(s.cfg.Int("slowlog-log-slower-than"), s.cfg.Int("slowlog-max-len"))
	s.latency.thresholdMs.Store(s.cfg.Int("latency-monitor-threshold"))
	s.stats.tracking.Store(s.cfg.Bool("latency-tracking"))
	s.tracker.max.Store(s.cfg.Int("tracking-table-max-keys"))
	return nil
}

// applyLogLevel changes how much is logged.
func (s *Server) applyLogLevel() error {
	s.log.SetLevel(logLevels[s.cfg.Text("loglevel")])
	return nil
}

// logLevels are Redis's names for hclog's levels.
var logLevels = map[string]hclog.Level{"debug": hclog.Trace, "verbose": hclog.Debug, "notice": hclog.Info, "warning": hclog.Warn}

// --- what sessions ask of the process

// noteSlow puts a command into the slow log.
func (s *Server) noteSlow(from *session, took time.Duration, spec *command.Spec, args [][]byte) {
	hide := secretArgs(spec, args)
	shown := args
	for i := range args {
		if hide(i) {
			if &shown[0] == &args[0] {
				shown = append([][]byte(nil), args...)
			}
			shown[i] = []byte("(redacted)")
		}
	}
	s.slowlog.add(time.Now(), took, shown, from.conn.RemoteAddr(), from.clientName())
}

// noteLatency notes how long a command took, under the event that Redis would use.
func (s *Server) noteLatency(spec *command.Spec, took time.Duration) {
	event := "command"
	if spec.Flags&command.FlagFast != 0 {
		event = "fast-command"
	}
	s.latency.observe(event, time.Now(), took)
}

// checkpointSoon takes a checkpoint in the background; asked again meanwhile, another one after it.
func (s *Server) checkpointSoon() {
	s.background.Lock()
	defer s.background.Unlock()
	if s.background.checkpoint {
		s.background.again = true
		return
	}
	if s.ctx.Err() != nil {
		return // closing, which takes a checkpoint itself
	}
	s.background.checkpoint = true
	take := s.eng.PlanCheckpoint() // before the client has its reply
	s.wg.Go(func() {
		for {
			if err := take(s.ctx); err != nil && s.ctx.Err() == nil {
				s.log.Error("checkpoint asked for by a client failed", "error", err)
			}
			s.background.Lock()
			more := s.background.again && s.ctx.Err() == nil
			s.background.again = false
			s.background.checkpoint = more
			s.background.Unlock()
			if !more {
				return
			}
			take = s.eng.Checkpoint
		}
	})
}

// resetStats is CONFIG RESETSTAT. REQUIRES: the executor lock.
func (s *Server) resetStats() {
	s.stats.reset()
	n := s.netTotals()
	s.reset.Store(&n)
	s.peak.Store(0)
	s.eng.ResetStats()
	s.resetLookups()
}

// netCounters are the network's counters, of clients and replication together; ReplIn and ReplOut are of replication alone,
// Reads and Writes of clients.
type netCounters struct{ Accepted, Rejected, In, Out, ReplIn, ReplOut, Reads, Writes, Expands, Shrinks int64 }

// netTotals are the counters since the start.
func (s *Server) netTotals() netCounters {
	n := s.network.Stats()
	c := netCounters{Accepted: n.Accepted, Rejected: n.Rejected, ReplIn: s.repl.replica.Status().Bytes, ReplOut: s.repl.primary.Stats().Bytes,
		Reads: n.Reads, Writes: n.Writes, Expands: n.Expands, Shrinks: n.Shrinks}
	c.In, c.Out = n.BytesIn+c.ReplIn, n.BytesOut+c.ReplOut
	return c
}

// netStats are the counters since the last reset.
func (s *Server) netStats() netCounters {
	n, base := s.netTotals(), s.reset.Load()
	return netCounters{n.Accepted - base.Accepted, n.Rejected - base.Rejected, n.In - base.In, n.Out - base.Out,
		n.ReplIn - base.ReplIn, n.ReplOut - base.ReplOut, n.Reads - base.Reads, n.Writes - base.Writes, n.Expands - base.Expands,
		n.Shrinks - base.Shrinks}
}

// clientBytes is the memory of all clients' buffers.
func (s *Server) clientBytes() (n int64) {
	for _, c := range s.clients.all() {
		_, in := c.conn.QueryBuffer()
		_, out := c.conn.OutputPending()
		n += in + out
	}
	return n
}

// memPeak notes how much memory is in use and returns the most there ever was.
func (s *Server) memPeak(now int64) int64 {
	for {
		peak := s.peak.Load()
		if now <= peak || s.peak.CompareAndSwap(peak, now) {
			return max(peak, now)
		}
	}
}

// cron samples counters once a second.
func (s *Server) cron() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			calls, _ := s.stats.totals()
			n := s.netStats()
			s.refreshGates()
			s.rates.sample(now, [rateKinds]int64{rateCommands: calls, rateInput: n.In, rateOutput: n.Out,
				rateReplInput: n.ReplIn, rateReplOutput: n.ReplOut})
			s.memPeak(readHeap())
			s.diskWatch.tick(now, s.cfg.Int("disk-warn-free-percent"))
		}
	}
}

// Addr returns the first TCP address that the server listens on, "" if there is none.
func (s *Server) Addr() string {
	for _, a := range s.network.Addrs() {
		if t, ok := a.(*net.TCPAddr); ok {
			if t.IP.IsUnspecified() {
				return fmt.Sprintf("127.0.0.1:%d", t.Port)
			}
			return t.String()
		}
	}
	return ""
}

// Port returns the port of Addr, 0 if there is none.
func (s *Server) Port() int {
	for _, a := range s.network.Addrs() {
		if t, ok := a.(*net.TCPAddr); ok {
			return t.Port
		}
	}
	return 0
}

// Engine returns the engine, for tests that look inside.
func (s *Server) Engine() *engine.Engine { return s.eng }

func (s *Server) logStart() {
	if names := s.cfg.Inert(); len(names) > 0 {
		s.log.Warn("directives without meaning here are ignored", "directives", strings.Join(names, " "))
	}
	st := s.eng.Stats()
	s.log.Info("data recovered", "dir", s.cfg.Text("dir"), "log-first", int64(st.First), "log-end", int64(st.End),
		"checkpoint-offset", int64(st.Checkpoint.Offset), "elapsed-ms", time.Since(s.started).Milliseconds())
	for _, a := range s.network.Addrs() {
		s.log.Info("ready to accept connections", "network", a.Network(), "addr", a.String())
	}
}

// shutdownContext bounds how long a shutdown waits for the last checkpoint.
func (s *Server) shutdownContext() (context.Context, context.CancelFunc) {
	if n := s.cfg.Int("shutdown-timeout"); n > 0 {
		return context.WithTimeout(context.Background(), time.Duration(n)*time.Second)
	}
	return context.WithCancel(context.Background())
}

// requestShutdown makes ShutdownAsked deliver. Asking twice is as good as once.
func (s *Server) requestShutdown(o shutdownOptions) {
	select {
	case s.shutdown <- o:
	default:
	}
}

// ShutdownAsked delivers once a client has sent SHUTDOWN: whoever started the server closes it then. abandon says that
// no last checkpoint is wanted.
func (s *Server) ShutdownAsked() <-chan shutdownOptions { return s.shutdown }

// drainTimeout bounds how long Close waits for clients to take their last replies.
const drainTimeout = 5 * time.Second

// Close stops accepting, lets pending replies leave, takes a last checkpoint and closes the data directory. It is
// idempotent and waits. When ctx ends earlier the checkpoint is left out: the log has everything.
func (s *Server) Close(ctx context.Context) error { return s.close(ctx, true) }

func (s *Server) close(ctx context.Context, checkpoint bool) error {
	s.closing.Do(func() {
		s.pause.end()
		drain, cancel := context.WithTimeout(ctx, drainTimeout)
		err := s.network.Close(drain)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			s.log.Warn("clients that did not take their replies were cut off")
			err = nil
		}
		s.stopReplication(ctx)
		s.stop()
		s.wg.Wait()
		if checkpoint {
			err = errors.Join(err, s.eng.Close(ctx))
		} else {
			err = errors.Join(err, s.eng.Log().Sync(ctx), s.eng.Abandon())
		}
		s.closeErr = err
		if err != nil {
			s.log.Error("closed with an error", "error", err)
		} else {
			s.log.Info("closed", "uptime-sec", int64(time.Since(s.started).Seconds()))
		}
	})
	return s.closeErr
}
