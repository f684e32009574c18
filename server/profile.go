package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// serveProfiles serves Go's profiles at the address of the directive pprof-listen until ctx ends.
func (s *Server) serveProfiles(ctx context.Context) error {
	addr := s.cfg.Text("pprof-listen")
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() {
		if err := srv.Close(); err != nil {
			s.log.Warn("closing the profile listener failed", "error", err)
		}
	})
	s.wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Warn("profile listener ended", "error", err)
		}
	})
	s.log.Info("profiles are served", "addr", l.Addr().String())
	return nil
}
