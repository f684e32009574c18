package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, ln.Close()) }()
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// taken returns a port that somebody else listens on until the test ends.
func taken(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ln.Close()) })
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

func answers(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	_, err = c.Write([]byte("PING\r\n"))
	b := make([]byte, 7)
	if err == nil {
		_, err = c.Read(b)
	}
	return err == nil && string(b) == "+PONG\r\n"
}

// port, bind and tls-port change while the server runs, with redis-server's replies: the connection that asks stays, the new place
// answers at once, the old one soon no more, and where it cannot be, all is as before.
func TestListenElsewhere(t *testing.T) {
	other := taken(t)
	for name, start := range map[string]func(t *testing.T) string{
		"redis":    func(t *testing.T) string { return oracle(t, "--bind", "127.0.0.1") },
		"holdfast": func(t *testing.T) string { return holdfast(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			before := start(t)
			c, reader := dial(t, before), dial(t, before)
			set := func(args ...string) string { return c.do(append([]string{"CONFIG", "SET"}, args...)...) }
			at := freePort(t)
			require.Equal(t, "+OK\r\n", set("port", at))
			require.True(t, answers("127.0.0.1:"+at))
			require.Eventually(t, func() bool { return !answers(before) }, 10*time.Second, time.Millisecond)
			require.Equal(t, "+PONG\r\n", reader.do("PING"))
			require.Equal(t, resp(2, "port", at), c.do("CONFIG", "GET", "port"))
			require.Regexp(t, regexp.MustCompile("tcp_port:"+at+"\r\n"), c.do("INFO", "server"))

			const refused = "-ERR CONFIG SET failed (possibly related to argument '%s') - %s\r\n"
			require.Equal(t, fmt.Sprintf(refused, "port", "Unable to listen on this port. Check server logs."), set("port", other))
			require.Equal(t, fmt.Sprintf(refused, "port", "Unable to listen on this port. Check server logs."),
				set("maxclients", "77", "port", other))
			require.Equal(t, resp(2, "maxclients", "10000"), c.do("CONFIG", "GET", "maxclients"))
			require.Equal(t, fmt.Sprintf(refused, "bind", "Failed to bind to specified addresses."), set("bind", "203.0.113.7"))
			require.Equal(t, fmt.Sprintf(refused, "tls-port", "Unable to update TLS configuration. Check server logs."), set("tls-port", freePort(t)))
			require.Equal(t, resp(2, "bind", "127.0.0.1"), c.do("CONFIG", "GET", "bind"))
			require.True(t, answers("127.0.0.1:"+at))
			for _, d := range []string{"unixsocket", "unixsocketperm", "tcp-backlog", "databases", "io-threads"} {
				require.Equal(t, fmt.Sprintf(refused, d, "can't set immutable config"), set(d, "1"))
			}

			// All addresses instead of one, at the same port, and back: each is in the other's way.
			require.Equal(t, "+OK\r\n", set("bind", "*"))
			require.True(t, answers("127.0.0.2:"+at))
			require.Equal(t, "+OK\r\n", set("bind", "127.0.0.1 -203.0.113.7"))
			require.True(t, answers("127.0.0.1:"+at))
			require.Eventually(t, func() bool { return !answers("127.0.0.2:" + at) }, 10*time.Second, time.Millisecond)
			require.Equal(t, fmt.Sprintf(refused, "bind", "Failed to bind to specified addresses."), set("bind", "* 203.0.113.7"))
			require.True(t, answers("127.0.0.1:"+at))

			// Both at once, within a transaction; then nowhere, and back.
			both := freePort(t)
			require.Equal(t, "+OK\r\n", c.do("MULTI"))
			require.Equal(t, "+QUEUED\r\n", set("port", both, "bind", "127.0.0.2"))
			require.Equal(t, "+QUEUED\r\n", c.do("PING"))
			require.Equal(t, "*2\r\n+OK\r\n+PONG\r\n", c.do("EXEC"))
			require.True(t, answers("127.0.0.2:"+both))
			require.Equal(t, "+OK\r\n", set("port", "0"))
			require.Eventually(t, func() bool { return !answers("127.0.0.2:" + both) }, 10*time.Second, time.Millisecond)
			require.Equal(t, "+OK\r\n", set("port", at, "bind", ""))
			require.False(t, answers("127.0.0.1:"+at))
			require.Equal(t, "+OK\r\n", set("bind", "127.0.0.1"))
			require.True(t, answers("127.0.0.1:"+at))
			require.Equal(t, "+PONG\r\n", reader.do("PING"))
		})
	}
}

// TLS can be switched on and off while the server runs; connections stay.
func TestListenTLSLater(t *testing.T) {
	pool, cert := testCertificates(t)
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	certFile, keyFile := write("cert.pem", "CERTIFICATE", cert.Certificate[0]), write("key.pem", "PRIVATE KEY", key)
	c := dial(t, holdfast(t).Addr())
	port := freePort(t)
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "tls-auth-clients", "no", "tls-cert-file", certFile, "tls-key-file", keyFile, "tls-port", port))
	connect := func() (*tls.Conn, error) {
		return tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	}
	nc, err := connect()
	require.NoError(t, err)
	over := newWire(t, nc)
	require.Equal(t, "+PONG\r\n", over.do("PING"))
	require.Equal(t, "+OK\r\n", c.do("CONFIG", "SET", "tls-port", "0"))
	_, err = connect()
	require.Error(t, err)
	require.Equal(t, "+PONG\r\n", over.do("PING"))
	require.Equal(t, "+PONG\r\n", c.do("PING"))
}
