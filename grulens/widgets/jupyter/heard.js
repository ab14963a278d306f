// What comes before the script of every widget here. anywidget 0.9 to 0.11 gives a script two seconds
// to load; where a page has more to do than that, its model hears nothing of the kernel any more: no
// picture comes, no colour changes, and nothing says why. So each model hears by itself, and one that
// was deaf asks the kernel for its state.
//
// Internal names used here: anywidget's and ipywidgets' _handle_comm_msg.

function heard({ initialize, render }) {
  return {
    initialize(given) {
      hear(given.model);
      return initialize?.(given);
    },
    render,
  };
}

function hear(model) {
  const real = behind(model);
  const above = real && Object.getPrototypeOf(Object.getPrototypeOf(real)); // ipywidgets' own class
  if (!real?.comm?.on_msg || !above?._handle_comm_msg) return; // no kernel, or another front end
  real.comm.on_msg((message) => above._handle_comm_msg.call(real, message));
  // a message with nothing in it: only one that is deaf fails at it
  const told = real._handle_comm_msg({ content: { data: {} } });
  told.catch(() => real.comm?.send({ method: "request_state" }));
}

// A script is given a part of its model; the events of Backbone hand over the whole.
function behind(model) {
  let found;
  const changed = (one) => (found = one);
  model.on("change:grulens_heard", changed);
  model.set("grulens_heard", true);
  model.off("change:grulens_heard", changed);
  found?.unset?.("grulens_heard", { silent: true });
  return found;
}
