package bench

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runSmall runs a benchmark of replication in a size that takes seconds, and returns its report.
func runSmall(t *testing.T, args ...string) string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	report := filepath.Join(t.TempDir(), "report.md")
	var stderr bytes.Buffer
	status := Main(append(args, "-o", report), t.Output(), &stderr)
	require.Zero(t, status, "%s", stderr.String())
	text, err := os.ReadFile(report)
	require.NoError(t, err)
	return string(text)
}

// What is measured is what happened: with room for the stream in its memory Redis resumes, without it copies everything.
func TestOutageOfRedis(t *testing.T) {
	report := runSmall(t, "outage", "-servers", "redis", "-bytes", "4m", "-outages", "cut", "-rounds", "1", "-keys", "2000", "-t", "300ms", "-rate", "1000", "-warm", "1m")
	require.Regexp(t, `subject=redis-2gb/bytes=4194304/outage=cut 1 .* 0 sync_full 1 sync_partial_ok`, report)
	// A backlog in memory is what an outage costs Redis, beside a load with none.
	above := regexp.MustCompile(`subject=redis-2gb/.* (-?\d+) B-above (-?\d+) B-above-no-outage (-?\d+) B-above-idle`).FindStringSubmatch(report)
	require.Len(t, above, 4)
	for _, n := range above[1:] {
		bytes, err := strconv.Atoi(n)
		require.NoError(t, err)
		require.Greater(t, bytes, 1<<20, "of 4 MiB")
	}
	require.Regexp(t, `subject=redis-1mb/bytes=4194304/outage=cut 1 .* 1 sync_full 0 sync_partial_ok`, report)
}

func TestSyncOfRedis(t *testing.T) {
	report := runSmall(t, "sync", "-pairs", "redis:redis", "-rounds", "1", "-keys", "20000", "-t", "300ms", "-c", "4")
	require.Contains(t, report, "Sync/primary=redis/replica=redis/load=none/keys=20000 20000 ")
	require.Regexp(t, `load=full/keys=20000 20000 .* req/s-during`, report)
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"7": 7, "64k": 64 << 10, "500m": 500 << 20, "2GB": 2 << 30} {
		n, err := parseBytes(text)
		require.NoError(t, err, text)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"", "g", "1t", "-1", "0", "1mk"} {
		_, err := parseBytes(text)
		require.Error(t, err, text)
	}
}

// Redis begins again after a cut, refuses reads while it loads, and never answers wrong.
func TestCutSyncOfRedis(t *testing.T) {
	report := runSmall(t, "cutsync", "-pairs", "redis:redis", "-keys", "30000", "-old", "1000", "-at", "50")
	require.Regexp(t, `cut=never 1 .* 1 x-uncut`, report)
	require.Regexp(t, `cut=50 1 .* 1\.[45]\d* x-uncut`, report)
}

func TestSlowReplicaOfRedis(t *testing.T) {
	report := runSmall(t, "slowreplica", "-pairs", "redis:redis", "-keys", "5000", "-for", "500ms", "-t", "300ms", "-c", "4")
	require.Contains(t, report, "SlowReplica/primary=redis/replica=redis/way=stopped/for=500ms 1 ")
	require.Contains(t, report, "way=throttled/for=500ms 1 ")
}

func TestReplKillOfRedis(t *testing.T) {
	report := runSmall(t, "replkill", "-pairs", "redis:redis", "-cycles", "2", "-run", "100ms", "-c", "2", "-keys", "50")
	require.Regexp(t, `ReplKill/primary=redis/replica=redis/cycles=2 4 .* 0 lost `, report)
}

// Three unmodified sentinels hand over between three servers, which takes them seconds whatever is done.
func TestFailoverOfRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	if _, err := exec.LookPath("redis-sentinel"); err != nil {
		t.Skip("redis-sentinel is not installed")
	}
	report := runSmall(t, "failover", "-servers", "redis", "-rounds", "1", "-t", "100ms", "-c", "2", "-keys", "50", "-down-after", "2s")
	require.Regexp(t, `Failover/server=redis/way=sentinel 1 .* 0 lost `, report)
	require.Regexp(t, `Failover/server=redis/way=command 1 .* 0 lost `, report)
}

func TestSoakOfRedis(t *testing.T) {
	report := runSmall(t, "soak", "-servers", "redis", "-duration", "3s", "-pause", "200ms", "-c", "2", "-keys", "50")
	require.Regexp(t, `Soak/server=redis/duration=3s \d+ .* 0 lost `, report)
}

// Every kind of event, the rare ones too, ends with servers that can go on.
func TestSoakEventsOfRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	e := &env{out: t.Output(), seed: seed}
	s := &soak{run: soakRun{writers: 2, keys: 50, depth: 4, limit: time.Minute}, kind: Redis, rng: rand.New(rand.NewPCG(seed, 0)), events: map[string]int{}}
	require.NoError(t, e.withFleet(func(fl *fleet) error {
		s.each = true
		return s.all(t.Context(), fl)
	}))
	for _, ev := range soakEvents {
		require.Equal(t, 1, s.events[ev.name], ev.name)
	}
	require.Zero(t, s.lost, s.example)
}

func TestSoakIsJudged(t *testing.T) {
	require.NoError(t, (&soak{kind: Holdfast, syncs: syncs{full: 4}, necessary: 4}).judge())
	require.ErrorContains(t, (&soak{kind: Holdfast, syncs: syncs{full: 5}, necessary: 4}).judge(), "sync_full is 5")
	require.ErrorContains(t, (&soak{kind: Holdfast, lost: 2}).judge(), "2 confirmed writes lost")
	require.NoError(t, (&soak{kind: Redis, syncs: syncs{full: 9}}).judge())
}

func TestFailoverIsJudged(t *testing.T) {
	require.NoError(t, failoverFigures{syncs: syncs{full: 1}}.judge(Holdfast, "sentinel"))
	require.ErrorContains(t, failoverFigures{syncs: syncs{full: 1}}.judge(Holdfast, "command"), "1 full syncs")
	require.ErrorContains(t, failoverFigures{lost: 1}.judge(Holdfast, "sentinel"), "1 confirmed writes lost")
}

func TestCutSyncIsJudged(t *testing.T) {
	ours, at := pair{Holdfast, Holdfast}, []int64{50}
	require.NoError(t, cutFigures{}.judge(ours, at, 1.09, 1.1))
	require.ErrorContains(t, cutFigures{}.judge(ours, at, 1.5, 1.1), "1.50 times the bytes")
	require.NoError(t, cutFigures{}.judge(pair{Holdfast, Redis}, at, 1.5, 1.1))
	require.ErrorContains(t, cutFigures{reads: oldReads{refused: 3}}.judge(pair{Redis, Holdfast}, at, 1.5, 1.1), "3 reads of the old data")
}

func TestReplKillIsJudged(t *testing.T) {
	ours, p := replKillFigures{syncs: syncs{full: 1}}, pair{Holdfast, Holdfast}
	require.NoError(t, ours.judge(p, 1))
	require.ErrorContains(t, replKillFigures{syncs: syncs{full: 2}}.judge(p, 1), "sync_full is 2")
	require.NoError(t, replKillFigures{syncs: syncs{full: 9}}.judge(pair{Redis, Redis}, 1))
	require.ErrorContains(t, replKillFigures{lost: 1}.judge(pair{Redis, Redis}, 1), "1 acknowledged writes lost")
}

func TestSlowReplicaIsJudged(t *testing.T) {
	c := slowRun{bar: 32 << 20}
	p := pair{Holdfast, Holdfast}
	require.NoError(t, slowFigures{syncs: syncs{partial: 1}, memBefore: 100 << 20, memMost: 120 << 20}.judge(p, "stopped", c))
	require.ErrorContains(t, slowFigures{syncs: syncs{full: 1}}.judge(p, "stopped", c), "1 full sync")
	require.ErrorContains(t, slowFigures{syncs: syncs{partial: 2}}.judge(p, "throttled", c), "dropped 2 times")
	require.ErrorContains(t, slowFigures{memBefore: 100 << 20, memMost: 140 << 20}.judge(p, "throttled", c), "40.0 MiB more memory")
}
