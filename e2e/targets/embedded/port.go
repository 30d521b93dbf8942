package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// port is a TCP port of the loopback interface that is ours even while no
// server listens on it. Without that, another program, or a client that tries
// to connect to the stopped server, may be given the port as its own.
type port struct {
	number int
	socket int // bound with SO_REUSEPORT and never listening
}

// reservePort lets the kernel choose a port. A server that also sets
// SO_REUSEPORT can listen on it.
func reservePort() (*port, error) {
	syscall.ForkLock.RLock() // no child gets the socket; not all systems have SOCK_CLOEXEC
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)),
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("getsockname", err)
	}
	address, ok := name.(*unix.SockaddrInet4)
	if !ok {
		unix.Close(fd)
		return nil, fmt.Errorf("getsockname: address is a %T", name)
	}
	return &port{number: address.Port, socket: fd}, nil
}

// address is the port with its host.
func (p *port) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number)) }

// listen listens on the port.
func (p *port) listen(ctx context.Context) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		})
		return errors.Join(err, failed)
	}}
	return config.Listen(ctx, "tcp4", p.address())
}

// release gives the port back.
func (p *port) release() { unix.Close(p.socket) }
