package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testCertificates makes a throw-away authority and a certificate of it that serves both ends.
func testCertificates(t *testing.T) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(crand.Reader, ca, ca, &caKey.PublicKey, caKey)
	require.NoError(t, err)
	caCert, err := x509.ParseCertificate(caDER)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(caCert)
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	require.NoError(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, leaf, caCert, &key.PublicKey, caKey)
	require.NoError(t, err)
	return pool, tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}
}

func startTLSNet(t *testing.T, change func(*NetworkConfig)) (*testNet, func(withCert bool) *tls.Conn) {
	pool, cert := testCertificates(t)
	n := startTestNet(t, func(cfg *NetworkConfig) {
		cfg.Listen.Port, cfg.Listen.TLSPort = 0, -1
		cfg.Listen.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
		if change != nil {
			change(cfg)
		}
	})
	return n, func(withCert bool) *tls.Conn {
		cfg := &tls.Config{RootCAs: pool}
		if withCert {
			cfg.Certificates = []tls.Certificate{cert}
		}
		c, err := tls.Dial("tcp", n.Addrs()[0].String(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
}

func TestTLSClientAuth(t *testing.T) {
	n, dial := startTLSNet(t, nil)
	stranger := dial(false)
	_, err := stranger.Read(make([]byte, 1))
	require.ErrorContains(t, err, "certificate")
	c := n.wrap(dial(true))
	c.send("PING\r\nECHO abc\r\n")
	c.expect("+PONG\r\n$3\r\nabc\r\n")
	c.send(strings.Repeat("BIG 10000\r\n", 50))
	for range 50 {
		c.expect("$10000\r\n" + strings.Repeat("x", 10000) + "\r\n")
	}
	c.send("QUIT\r\n")
	c.expect("+OK\r\n")
	c.expectEOF()
	c.expectClosed(ErrClosed)
}

func TestTLSHandOffAndAsync(t *testing.T) {
	n, dial := startTLSNet(t, nil)
	c := n.wrap(dial(true))
	c.send("PING\r\nSLOW a\r\nWAIT\r\nPING\r\n")
	c.expect("+PONG\r\n$1\r\na\r\n")
	<-c.h.waiting
	c.send("ECHO ahead\r\n")
	n.Each(func(conn *Conn) { conn.WriteAsync([]byte("+push\r\n")) })
	c.expect("+push\r\n")
	n.release <- struct{}{}
	c.expect("+OK\r\n+PONG\r\n$5\r\nahead\r\n")
	c.send("WAIT\r\n")
	<-c.h.waiting
	require.NoError(t, c.Close())
	select {
	case <-c.h.closed:
	case <-time.After(20 * time.Second):
		t.Fatal("disconnect not noticed")
	}
}

func TestTLSGateAndLimit(t *testing.T) {
	n, dial := startTLSNet(t, func(cfg *NetworkConfig) { cfg.OutputLimits[ClassNormal].Hard = 1 << 20 })
	c := n.wrap(dial(true))
	c.send("GATED 5\r\n")
	n.SetDurable(5)
	c.expect("+OK\r\n")
	c.send("GATED 6\r\n")
	other := n.wrap(dial(true))
	other.send("GATED 4\r\n")
	other.expect("+OK\r\n")
	n.SetDurable(6)
	c.expect("+OK\r\n")
	go io.WriteString(other, strings.Repeat("BIG 100000\r\n", 1000))
	other.expectClosed(ErrOutputLimit)
}
