package pods

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Server is the PostgreSQL server of the queues. Each scenario has a database there.
type Server struct {
	// Address is that of the server for pods, Here the one for this machine.
	Address, Here  string
	User, Password string
	// Template is a database to which nobody connects, with a queue's tables for runners
	// of this repository.
	Template string
}

// The Secret of runner/deploy/postgres, for the pods of a namespace.
const (
	queueSecret = "studio-go-runner-queue"
	queueURL    = "url"
)

// URL names a database of the server.
func (s Server) URL(address, database string, user *url.Userinfo) string {
	u := url.URL{Scheme: "postgres", User: user, Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// createQueue makes the database of the scenario, and says where it is: to pods with
// a Secret.
func (e *env) createQueue(ctx context.Context) error {
	s, name := e.target.config.Server, e.Namespace()
	if s.Here == "" {
		return nil // a look at the image
	}
	if err := s.Exec(ctx, fmt.Sprintf("create database %q template %q", name, s.Template)); err != nil {
		return fmt.Errorf("create the queue: %w", err)
	}
	e.Layout.Queue, e.Layout.Password = "--queue="+s.URL(s.Here, name, url.User(s.User)), s.Password
	e.Layout.Spool = s.URL(s.Address, name, url.UserPassword(s.User, s.Password))
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: queueSecret},
		StringData: map[string]string{queueURL: e.Layout.Spool},
	}
	if _, err := e.Admin.CoreV1().Secrets(name).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create the Secret of the queue: %w", err)
	}
	return nil
}

// dropQueue removes the database, with the connections of runners that have not
// ended yet.
func (e *env) dropQueue(ctx context.Context) error {
	if e.Layout.Queue == "" {
		return nil
	}
	return e.target.config.Server.Exec(ctx, fmt.Sprintf("drop database %q with (force)", e.Namespace()))
}

// Exec runs a statement as the server's owner.
func (s Server) Exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.URL(s.Here, "postgres", url.UserPassword(s.User, s.Password)))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
