//go:build !linux

package server

import (
	"errors"
	"net"
)

// Without epoll every connection has a goroutine driver; the loop exists in name only.

type loopState struct{}

type loop struct{}

var errNoLoop = errors.New("event loops need epoll")

func newLoop(*Network) (*loop, error)                   { return nil, errNoLoop }
func (l *loop) listen(net.Listener, listenerInfo) error { return errNoLoop }
func (l *loop) unlisten(net.Listener)                   {}
func (l *loop) run()                                    {}
func (l *loop) post(func()) bool                        { return false }
func (l *loop) setDurable(int64)                        {}
func (l *loop) setAccepting(bool)                       {}
func (l *loop) shutdown(bool)                           {}

const haveLoop = false

func stopListening(net.Listener) error { return errNoLoop }

func setBacklog(uintptr, int) error { return nil }
