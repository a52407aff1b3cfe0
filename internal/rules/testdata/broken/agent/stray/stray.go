package stray

import "nodelet/agent/pod"
