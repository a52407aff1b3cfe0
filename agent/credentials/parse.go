package credentials

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime"
)

// login is how the files write a credential. Auth is base64 of
// "username:password" and goes before the two by themselves.
type login struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// ParseConfigJSON reads the format of ~/.docker/config.json and of secrets of
// type kubernetes.io/dockerconfigjson. One bad entry makes the whole an error.
func ParseConfigJSON(data []byte) (Config, error) {
	var file struct {
		Auths map[string]login `json:"auths"`
	}
	if err := unmarshal(data, &file); err != nil {
		return nil, err
	}
	return parseLogins(file.Auths)
}

// ParseConfig reads the older format of ~/.dockercfg and of secrets of type
// kubernetes.io/dockercfg, which is the newer one's "auths" alone.
func ParseConfig(data []byte) (Config, error) {
	var logins map[string]login
	if err := unmarshal(data, &logins); err != nil {
		return nil, err
	}
	return parseLogins(logins)
}

// unmarshal is json.Unmarshal whose errors do not repeat what was read.
func unmarshal(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("malformed JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("unexpected kind of JSON value at byte %d", kind.Offset)
	case err != nil:
		return errors.New("malformed JSON")
	}
	return nil
}

func parseLogins(logins map[string]login) (Config, error) {
	config := make(Config, len(logins))
	for _, registry := range slices.Sorted(maps.Keys(logins)) {
		l := logins[registry]
		auth := podruntime.Auth{Username: l.Username, Password: l.Password, IdentityToken: l.IdentityToken}
		if l.Auth != "" {
			var ok bool
			if auth.Username, auth.Password, ok = parseAuth(l.Auth); !ok {
				return nil, fmt.Errorf("registry %q: auth must be base64 of username:password", registry)
			}
		}
		config[registry] = auth
	}
	return config, nil
}

// parseAuth takes base64 with and without padding.
func parseAuth(auth string) (username, password string, ok bool) {
	unpadded := strings.TrimRight(strings.TrimSpace(auth), "=")
	decoded, err := base64.RawStdEncoding.DecodeString(unpadded)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}

// FromSecrets returns a keyring of a pod's imagePullSecrets, in their order.
// Secrets of other types are passed over. What cannot be read is an error each
// and does not keep the rest from being used.
func FromSecrets(secrets []*v1.Secret) (Keyring, []error) {
	var k Keyring
	var errs []error
	for _, s := range secrets {
		var config Config
		var err error
		switch s.Type {
		case v1.SecretTypeDockerConfigJson:
			config, err = parseKey(s, v1.DockerConfigJsonKey, ParseConfigJSON)
		case v1.SecretTypeDockercfg:
			config, err = parseKey(s, v1.DockerConfigKey, ParseConfig)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("image pull secret %s/%s: %w", s.Namespace, s.Name, err))
		}
		k.add(config, s)
	}
	k.sort()
	return k, errs
}

func parseKey(s *v1.Secret, key string, parse func([]byte) (Config, error)) (Config, error) {
	data := s.Data[key]
	if len(data) == 0 {
		return nil, fmt.Errorf("no %s", key)
	}
	config, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return config, nil
}

// The names of the two kinds of files.
const (
	configJSON = "config.json"
	dockercfg  = ".dockercfg"
)

// NodeFiles returns where a node's own credentials may be, in the order to
// look: first all places of a config.json, then all of a .dockercfg. root is
// the agent's root directory, dir its working directory and home its user's;
// those that are empty are left out.
func NodeFiles(root, dir, home string) []string {
	var files []string
	add := func(dir, name string) {
		if dir != "" {
			files = append(files, path.Join(dir, name))
		}
	}
	add(root, configJSON)
	add(dir, configJSON)
	if home != "" {
		add(path.Join(home, ".docker"), configJSON)
	}
	add("/.docker", configJSON)
	add(root, dockercfg)
	add(dir, dockercfg)
	add(home, dockercfg)
	add("/", dockercfg)
	return files
}

// FromFiles returns a keyring of the first of the files that exists and can be
// read with read, which is os.ReadFile on a node; the base name tells the
// format. Files that exist and cannot be read or parsed are an error each.
//
// It costs a few opens of small files, next to nothing beside a pull: call it
// for each pull rather than keep its result, and a changed file is used at once.
func FromFiles(files []string, read func(name string) ([]byte, error)) (Keyring, []error) {
	var errs []error
	for _, name := range files {
		data, err := read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		parse := ParseConfigJSON
		if path.Base(name) == dockercfg {
			parse = ParseConfig
		}
		var config Config
		if err == nil {
			config, err = parse(data)
		}
		if err == nil {
			return New(config), errs
		}
		errs = append(errs, fmt.Errorf("registry credentials in %s: %w", name, err))
	}
	return Keyring{}, errs
}
