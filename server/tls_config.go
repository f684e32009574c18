package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// applyTLS reads the certificates that the configuration names. With CONFIG SET new connections get the new ones.
func (s *Server) applyTLS() error {
	if s.cfg.Int("tls-port") == 0 {
		return nil
	}
	c, err := s.loadTLS()
	if err != nil {
		return err
	}
	s.tls.Store(c)
	return nil
}

func (s *Server) loadTLS() (*tls.Config, error) {
	certFile, keyFile := s.cfg.Text("tls-cert-file"), s.cfg.Text("tls-key-file")
	if certFile == "" || keyFile == "" {
		return nil, fmt.Errorf("tls-port needs tls-cert-file and tls-key-file")
	}
	if s.cfg.Text("tls-key-file-pass") != "" {
		return nil, fmt.Errorf("tls-key-file-pass: encrypted keys are not supported")
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls-cert-file %s, tls-key-file %s: %w", certFile, keyFile, err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	pool, err := s.clientCAs()
	if err != nil {
		return nil, err
	}
	switch s.cfg.Text("tls-auth-clients") {
	case "yes":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case "optional":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if c.ClientAuth != tls.NoClientCert {
		if pool == nil {
			return nil, fmt.Errorf("tls-auth-clients needs tls-ca-cert-file or tls-ca-cert-dir")
		}
		c.ClientCAs = pool
	}
	if p := s.cfg.Text("tls-protocols"); p != "" {
		lowest, highest := uint16(0), uint16(0)
		for _, name := range strings.Fields(p) {
			v, ok := map[string]uint16{"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[name]
			if !ok {
				return nil, fmt.Errorf("tls-protocols: unknown version %q", name)
			}
			if lowest == 0 || v < lowest {
				lowest = v
			}
			highest = max(highest, v)
		}
		c.MinVersion, c.MaxVersion = lowest, highest
	}
	return c, nil
}

// clientCAs reads the certificates that may sign those of clients; nil if none are configured.
func (s *Server) clientCAs() (*x509.CertPool, error) {
	var files []string
	if f := s.cfg.Text("tls-ca-cert-file"); f != "" {
		files = append(files, f)
	}
	if dir := s.cfg.Text("tls-ca-cert-dir"); dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("tls-ca-cert-dir: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	added := false
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("certificate of an authority: %w", err)
		}
		added = pool.AppendCertsFromPEM(pem) || added
	}
	if !added {
		return nil, fmt.Errorf("no certificate found in %s", strings.Join(files, ", "))
	}
	return pool, nil
}

// primaryTLS returns how to speak TLS to the primary, nil if tls-replication is off. As in Redis the primary's certificate must be
// signed by a known authority; its names are not compared, since primaries are named by address.
func (s *Server) primaryTLS() (*tls.Config, error) {
	if !s.cfg.Bool("tls-replication") {
		return nil, nil
	}
	certFile, keyFile := s.cfg.Text("tls-client-cert-file"), s.cfg.Text("tls-client-key-file")
	if certFile == "" {
		certFile, keyFile = s.cfg.Text("tls-cert-file"), s.cfg.Text("tls-key-file")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate for tls-replication: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	pool, err := s.clientCAs()
	if err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, fmt.Errorf("tls-replication needs tls-ca-cert-file or tls-ca-cert-dir")
	}
	c.VerifyConnection = func(st tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool()}
		for _, cert := range st.PeerCertificates[1:] {
			o.Intermediates.AddCert(cert)
		}
		_, err := st.PeerCertificates[0].Verify(o)
		return err
	}
	return c, nil
}
