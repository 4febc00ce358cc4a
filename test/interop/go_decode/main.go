// Decodes what the admin interface says into Envoy's own types; an unknown field or type is an error.
// Usage: go_decode config_dump|clusters|listeners|server_info|certs < JSON. Prints the type of each part of a dump.
package main

import (
	"fmt"
	"io"
	"os"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	// Types that an Any in the dump may hold.
	_ "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

var messages = map[string]func() proto.Message{
	"config_dump": func() proto.Message { return &adminv3.ConfigDump{} },
	"clusters":    func() proto.Message { return &adminv3.Clusters{} },
	"listeners":   func() proto.Message { return &adminv3.Listeners{} },
	"server_info": func() proto.Message { return &adminv3.ServerInfo{} },
	"certs":       func() proto.Message { return &adminv3.Certificates{} },
	"memory":      func() proto.Message { return &adminv3.Memory{} },
	"init_dump":   func() proto.Message { return &adminv3.UnreadyTargetsDumps{} },
}

func main() {
	if err := decode(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func decode(kind string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	message := messages[kind]()
	if err := protojson.Unmarshal(text, message); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	dump, ok := message.(*adminv3.ConfigDump)
	if !ok {
		fmt.Println(message.ProtoReflect().Descriptor().FullName())
		return nil
	}
	for _, config := range dump.GetConfigs() {
		part, err := config.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("%s: %w", config.GetTypeUrl(), err)
		}
		fmt.Println(part.ProtoReflect().Descriptor().FullName())
	}
	return nil
}
