package server

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How a replica gets to its primary: user and password, TLS, and the address that it names.

// A replica says masterauth, and masteruser to a primary that has users. A wrong one is told, and a right one taken without a restart.
func TestReplicaAuthenticates(t *testing.T) {
	redis := redisPeer(t, "--repl-diskless-sync-delay", "0")
	require.Equal(t, "+OK\r\n", redis.do("ACL", "SETUSER", "copier", "on", ">secret", "+psync", "+replconf", "+ping"))
	require.Equal(t, "+OK\r\n", redis.do("ACL", "SETUSER", "default", ">words"))
	ours := holdfast(t, "--requirepass", "words")
	for name, c := range map[string]struct {
		addr, user, pass, refused string
	}{
		"redis-server, default user":   {redis.addr, "", "words", "invalid username-password pair"},
		"redis-server, user":           {redis.addr, "copier", "secret", "invalid username-password pair"},
		"holdfast":                     {ours.Addr(), "", "words", "invalid username-password pair"},
		"holdfast, the user by name":   {ours.Addr(), "default", "words", "invalid username-password pair"},
		"holdfast, nothing is said":    {ours.Addr(), "", "words", ""},
		"redis-server, nothing at all": {redis.addr, "", "words", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peer{t, c.addr, dial(t, c.addr)}
			require.Equal(t, "+OK\r\n", p.do("AUTH", "words"))
			require.Equal(t, "+OK\r\n", p.do("SET", "k", "v"))
			wrong := c.pass + "x"
			if c.refused == "" {
				wrong = ""
			}
			r := newPeer(t, holdfast(t, "--masteruser", c.user, "--masterauth", wrong).Addr())
			require.Equal(t, "+OK\r\n", r.do("REPLICAOF", "127.0.0.1", p.port()))
			want := c.refused
			if want == "" {
				want = "NOAUTH"
			}
			require.Eventually(t, func() bool { return strings.Contains(r.info("master_link_error"), want) }, 20*time.Second, 5*time.Millisecond)
			require.Equal(t, "down", r.info("master_link_status"))
			require.Equal(t, "+OK\r\n", r.do("CONFIG", "SET", "masterauth", c.pass))
			r.awaitInfo("master_link_status", "up")
			require.Equal(t, "$1\r\nv\r\n", r.do("GET", "k"))
		})
	}
}

// replica-announce-ip and -port are what the primary shows and hands on; a name is shown, too.
func TestReplicaAnnounces(t *testing.T) {
	for _, p := range []*peer{newPeer(t, holdfast(t).Addr()), redisPeer(t, "--repl-diskless-sync-delay", "0")} {
		r := newPeer(t, holdfast(t, "--replica-announce-ip", "replica.example", "--replica-announce-port", "4321").Addr())
		r.follow(p)
		require.Eventually(t, func() bool { return strings.HasPrefix(p.info("slave0"), "ip=replica.example,port=4321,state=online") }, 20*time.Second, 5*time.Millisecond)
		require.Contains(t, p.do("ROLE"), "$15\r\nreplica.example\r\n$4\r\n4321\r\n")
	}
}

// The link may be TLS, with a certificate of either side, to Redis and from it.
func TestReplicationOverTLS(t *testing.T) {
	dir := t.TempDir()
	_, cert := testCertificates(t)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	certFile, keyFile := write("cert.pem", "CERTIFICATE", cert.Certificate[0]), write("key.pem", "PRIVATE KEY", key)
	caFile := write("ca.pem", "CERTIFICATE", cert.Certificate[1])
	tlsOf := func(port string) []string {
		return []string{"--tls-port", port, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", caFile, "--tls-replication", "yes"}
	}
	ports := []string{freePort(t), freePort(t), freePort(t), freePort(t)}
	rp := redisPeer(t, append(tlsOf(ports[0]), "--repl-diskless-sync-delay", "0")...)
	rr := redisPeer(t, tlsOf(ports[1])...)
	hp := newPeer(t, holdfast(t, tlsOf(ports[2])...).Addr())
	hr := newPeer(t, holdfast(t, tlsOf(ports[3])...).Addr())
	for _, c := range []struct {
		p, r    *peer
		tlsPort string
		shown   string
	}{{hp, hr, ports[2], ports[3]}, {rp, hr, ports[0], ports[3]}, {hp, rr, ports[2], ports[1]}} {
		require.Equal(t, "+OK\r\n", c.r.do("REPLICAOF", "NO", "ONE"))
		require.Equal(t, "+OK\r\n", c.p.do("SET", "k", c.tlsPort+c.shown))
		// Its own port for clients speaks no TLS.
		require.Equal(t, "+OK\r\n", c.r.do("REPLICAOF", "127.0.0.1", c.p.port()))
		require.Equal(t, "down", c.r.info("master_link_status"))
		require.Contains(t, c.r.do("REPLICAOF", "127.0.0.1", c.tlsPort), "+OK")
		c.r.awaitInfo("master_link_status", "up")
		same(t, c.p, c.r)
		require.Contains(t, c.p.info("slave0"), ",port="+c.shown+",", "the port that speaks TLS is announced")
		require.Equal(t, "$"+strconv.Itoa(len(c.tlsPort+c.shown))+"\r\n"+c.tlsPort+c.shown+"\r\n", c.r.do("GET", "k"))
	}
}
