package kube

// Address is where a client connects to.
func (c *Client) Address() string { return c.base.Scheme + "://" + c.base.Host }
