package worker

import "nodelet/fakeruntime"
