package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/server/reply"
	"github.com/holdfast-db/holdfast/wal"
)

// The server's role in replication. Whom it follows is decided here and kept in the data directory, so that it survives kill -9;
// package replication makes the links, replication_adapt.go joins them to the engine, failover.go hands the role over.

// roleState is the server's role.
type roleState struct {
	log     hclog.Logger
	primary *replication.Primary
	replica *replication.Replica

	// change is held while the role changes. It comes before all other locks.
	change sync.Mutex
	// following is the primary, nil if this server is one.
	following atomic.Pointer[replication.Target]
	// confirmed: the primary's configuration says replicaof of, in the form that the configuration keeps.
	configured string
	// stale: a replica whose link is down must not answer (replica-serve-stale-data no).
	stale    atomic.Bool
	failover failoverState

	gate replyGate
}

// savedRole is what the data directory keeps. Configured is what the configuration said when the role was taken: once it says
// something else, it has been changed since, and counts.
type savedRole struct {
	Primary    string // "host port"; empty: this server is a primary
	Configured string
}

// decideRole is the engine's Options.Role.
func (s *Server) decideRole(saved string) (replica bool, err error) {
	conf := s.cfg.Text("replicaof")
	s.repl.configured = conf
	role := savedRole{Primary: conf, Configured: conf}
	if saved != "" {
		var kept savedRole
		if err := json.Unmarshal([]byte(saved), &kept); err != nil {
			return false, fmt.Errorf("file ROLE in the data directory: %w", err)
		}
		if kept.Configured == conf {
			role = kept
		}
	}
	if role.Primary != conf {
		s.log.Warn("the role was changed since the configuration was written, and stays", "following", orNobody(role.Primary),
			"configured", orNobody(conf))
	}
	t, err := parseTarget(role.Primary)
	if err != nil {
		return false, err
	}
	if t != nil {
		s.repl.following.Store(t)
		s.cfg.assign("replicaof", role.Primary)
	} else {
		s.cfg.assign("replicaof", "")
	}
	return t != nil, nil
}

func orNobody(primary string) string {
	if primary == "" {
		return "no one"
	}
	return primary
}

// parseTarget reads "host port"; nil for "".
func parseTarget(text string) (*replication.Target, error) {
	if text == "" {
		return nil, nil
	}
	host, port, ok := strings.Cut(text, " ")
	n, err := strconv.Atoi(port)
	if !ok || err != nil {
		return nil, fmt.Errorf("replicaof %q: Invalid master port", text)
	}
	return &replication.Target{Host: host, Port: n}, nil
}

// saveRole keeps the role, and has CONFIG REWRITE write it. REQUIRES: change.
func (s *Server) saveRole(t *replication.Target) error {
	role := savedRole{Configured: s.repl.configured}
	if t != nil {
		role.Primary = t.Host + " " + strconv.Itoa(t.Port)
	}
	text, err := json.Marshal(role)
	if err != nil {
		return err
	}
	if err := s.eng.SaveRole(string(text)); err != nil {
		return err
	}
	s.cfg.assign("replicaof", role.Primary)
	return nil
}

// newReplication makes both sides of replication, idle. REQUIRES: the engine is open.
func (s *Server) newReplication(log hclog.Logger) {
	r := &s.repl
	r.log = log.Named("repl")
	r.failover.init()
	r.primary = replication.NewPrimary(replication.PrimaryOptions{
		Source: replSource{s}, NewSpool: replication.NewFileSpool(s.cfg.Text("dir")), Logger: r.log, OnAck: s.onAck, Following: func() bool { return r.following.Load() != nil },
		Slots: replSlots{s}, SnapshotSize: s.eng.SnapshotSize,
		Config: s.primaryConfig(),
	})
	r.replica = replication.NewReplica(replication.ReplicaOptions{
		Sink: replSink{s}, Dial: s.dialPrimary, Downstream: r.primary, Logger: r.log, OnState: s.onLinkState,
		OnFailover: r.failover.told, Tables: true, Config: s.replicaConfig(),
	})
	s.replicasAttached = func() bool { return r.primary.Len() > 0 }
	s.watchStale()
	s.refreshGates()
}

// startReplication follows the primary that was decided on. REQUIRES: the server listens.
func (s *Server) startReplication() {
	r := &s.repl
	r.replica.SetConfig(s.replicaConfig()) // the port is known now
	if t := r.following.Load(); t != nil {
		r.replica.Start(*t)
	}
}

// stopReplication ends all links: the one to the primary first, so that what came from it can still go on to those behind us.
// REQUIRES: no client is served any more.
func (s *Server) stopReplication(ctx context.Context) {
	r := &s.repl
	r.failover.abort(errShuttingDown)
	r.replica.Stop()
	s.drainReplicas(ctx)
	r.primary.Close()
}

var errShuttingDown = errors.New("the server is shutting down")

// drainLook is after how long a server that shuts down looks again which replicas there are to wait for: one that has gone will
// not acknowledge.
const drainLook = 50 * time.Millisecond

// drainReplicas waits until the replicas that are in step have all that there is, so that whichever takes over has it. It
// takes half of the time that ctx leaves: the last checkpoint wants some, too.
func (s *Server) drainReplicas(ctx context.Context) {
	if s.eng.IsReplica() || s.logFailed.Load() {
		return
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	_, end, _ := s.eng.Position()
	for {
		online := s.replicasInStep()
		if online == 0 {
			return
		}
		turn, cancel := context.WithTimeout(ctx, drainLook)
		have := s.repl.primary.WaitAcks(turn, end, online, false)
		cancel()
		if have >= online {
			return
		}
		if ctx.Err() != nil {
			s.repl.log.Warn("shutting down before all replicas have everything; they resume from where they are", "behind", online-have)
			return
		}
	}
}

// replicasInStep counts the replicas for which a shutdown waits.
func (s *Server) replicasInStep() (n int) {
	for _, i := range s.repl.primary.Replicas() {
		if i.State == replication.StateOnline && !i.Old && i.Lag < 2*time.Second {
			n++
		}
	}
	return n
}

func (s *Server) primaryConfig() replication.PrimaryConfig {
	return replication.PrimaryConfig{
		PingPeriod: time.Duration(s.cfg.Int("repl-ping-replica-period")) * time.Second,
		Timeout:    time.Duration(s.cfg.Int("repl-timeout")) * time.Second,
		Spooled:    !s.cfg.Bool("repl-diskless-sync"),
		MaxLag:     time.Duration(s.cfg.Int("min-replicas-max-lag")) * time.Second,
		SyncChoice: replication.SyncChoice(s.cfg.Text("repl-sync-choice")),

		SyncBytesPerSecond: s.cfg.Int("repl-sync-max-bytes-per-second"),
	}
}

func (s *Server) replicaConfig() replication.ReplicaConfig {
	port := int(s.cfg.Int("replica-announce-port"))
	if port == 0 && s.cfg.Bool("tls-replication") && s.cfg.Int("tls-port") != 0 {
		port = int(s.cfg.Int("tls-port"))
	}
	if port == 0 && s.network != nil {
		port = s.Port()
	}
	return replication.ReplicaConfig{
		User: s.cfg.Text("masteruser"), Password: s.cfg.Text("masterauth"), Port: port, IP: s.cfg.Text("replica-announce-ip"),
		Timeout: time.Duration(s.cfg.Int("repl-timeout")) * time.Second, Name: s.cfg.Text("replica-name"),
	}
}

// applyReplication makes changed settings take effect.
func (s *Server) applyReplication() error {
	if !s.cfg.Bool("replica-read-only") {
		return errors.New("replica-read-only no is not supported: a replica's log is its primary's, byte for byte")
	}
	if _, err := s.primaryTLS(); err != nil {
		return err
	}
	s.repl.primary.SetConfig(s.primaryConfig())
	s.repl.replica.SetConfig(s.replicaConfig())
	s.watchStale()
	s.refreshGates()
	return nil
}

// dialPrimary connects to the primary, with TLS if tls-replication says so.
func (s *Server) dialPrimary(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.primaryTLS()
	if err != nil {
		return nil, err
	}
	d := net.Dialer{KeepAlive: time.Duration(s.cfg.Int("tcp-keepalive")) * time.Second}
	var conn net.Conn
	if c == nil {
		conn, err = d.DialContext(ctx, "tcp", addr)
	} else {
		conn, err = (&tls.Dialer{NetDialer: &d, Config: c}).DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, err
	}
	s.primaryLink.dialed(s.network.nextID.Add(1), conn, time.Now())
	return conn, nil
}

// follow makes the server a replica of t. REQUIRES: change.
func (s *Server) follow(t replication.Target) error {
	r := &s.repl
	if err := s.saveRole(&t); err != nil {
		return err
	}
	s.becomeReplica(t)
	t.Failover = false
	r.replica.Start(t)
	return nil
}

// becomeReplica takes the role, without a link yet. REQUIRES: change.
func (s *Server) becomeReplica(t replication.Target) {
	t.Failover = false
	if s.repl.following.Swap(&t) == nil {
		s.repl.log.Info("Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to synchronize with the new master with just a partial transfer.")
	}
	s.eng.SetReplica(true)
	for _, c := range s.clients.all() {
		c.unblockWait(reply.UnblockedRoleChange)
	}
	s.watchStale()
	s.refreshGates()
}

// lead makes the server a primary, under a new replication id (W3). REQUIRES: change.
func (s *Server) lead(ctx context.Context) error {
	r := &s.repl
	r.replica.Stop()
	id, err := s.eng.Promote(ctx)
	if err != nil {
		// Still a replica: it goes on following.
		if t := r.following.Load(); t != nil {
			r.replica.Start(*t)
		}
		return err
	}
	r.following.Store(nil)
	if err := s.saveRole(nil); err != nil {
		// The role is what it is; only a restart would not know.
		r.log.Error("the new role could not be kept", "error", err)
	}
	s.watchStale()
	s.refreshGates()
	r.primary.Disconnect() // they come back, and learn the new id by +CONTINUE
	_, end, _ := s.eng.Position()
	r.log.Info(fmt.Sprintf("Setting secondary replication ID: new replication ID is %s, valid from offset %d", id, int64(end)+1))
	return nil
}

// onLinkState is called when the link to the primary changes.
func (s *Server) onLinkState(state replication.LinkState) {
	s.watchStale()
	s.primaryLink.show(&s.links, state == replication.Connected)
}

func (s *Server) watchStale() {
	s.repl.stale.Store(s.repl.following.Load() != nil && !s.cfg.Bool("replica-serve-stale-data") &&
		s.repl.replica.State() != replication.Connected)
}

// onAck is called when a replica has acknowledged more.
func (s *Server) onAck() {
	if s.repl.gate.need.Load() > 0 {
		s.release(-1)
	}
}

// refreshGates looks at how many replicas are in step. The cron asks each second, as in Redis.
func (s *Server) refreshGates() {
	refusal := ""
	if n := int(s.cfg.Int("min-replicas-to-write")); n > 0 && s.cfg.Int("min-replicas-max-lag") > 0 && !s.eng.IsReplica() &&
		s.repl.primary.GoodReplicas() < n {
		refusal = reply.NoReplicas
	}
	s.eng.SetWriteGate(refusal)
	need := s.cfg.Int("min-replicas-durable")
	if s.eng.IsReplica() {
		need = 0
	}
	if s.repl.gate.need.Swap(need) != need || need > 0 {
		s.release(-1)
	}
	s.repl.gate.hurry(s.eng.Log(), need > 0)
}

// replyGate decides up to which offset replies that depend on the log may leave.
type replyGate struct {
	need    atomic.Int64 // replicas that must have a write on disk: min-replicas-durable
	mu      sync.Mutex
	durable wal.Offset
	calm    func() // ends the log's hurry; nil: no reply waits for replicas
}

// hurry has replicas get each write at once while replies wait for them.
func (g *replyGate) hurry(log *wal.Log, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case on && g.calm == nil:
		g.calm = log.Hurry()
	case !on && g.calm != nil:
		g.calm()
		g.calm = nil
	}
}

// release lets replies leave: what is durable here, as far as enough replicas have it, too. durable < 0: no news of that.
// It may come from any goroutine, and must not block.
func (s *Server) release(durable wal.Offset) {
	g := &s.repl.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.durable = max(g.durable, durable)
	off := g.durable
	need := int(g.need.Load())
	if need > 0 {
		off = min(off, s.repl.primary.AckedBy(need, true))
	}
	s.eng.SetReplyGate(need > 0, off)
	if s.network != nil {
		s.network.SetDurable(int64(off))
	}
}
