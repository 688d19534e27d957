package modbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

func openTLS(ctx context.Context, l Line) (port, error) {
	config := l.tls.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if config.MinVersion < tls.VersionTLS12 {
		config.MinVersion = tls.VersionTLS12
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", l.host)
	if err != nil {
		return nil, fmt.Errorf("dialling: %w", explainTLS(err))
	}
	return conn, nil
}

// explainTLS puts the reason for which a TLS connection is refused into words of ours, and says which side refused.
func explainTLS(err error) error {
	why := ""
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		why = "the server's certificate is not valid at this time"
	} else if _, ok := errors.AsType[x509.HostnameError](err); ok {
		why = "the server's certificate is for another name"
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		why = "the server's certificate is not from an authority that is trusted here"
	} else if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		why = "the server does not speak TLS"
	} else if remote, ok := errors.AsType[*net.OpError](err); ok && remote.Op == "remote error" {
		why = "the server refuses the connection or the certificate shown to it"
	} else {
		return err
	}
	return &lineError{fmt.Errorf("%s: %w", why, err)}
}
