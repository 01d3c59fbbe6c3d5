// Ask for this page again every few seconds and put its <main> in place of ours.
(() => {
  "use strict";
  const interval = Number(document.body.dataset.refresh) * 1000;
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  const usual = state.textContent;
  let paused = false;
  let timer = 0;

  const say = (text, failed) => {
    // Set only when it changes: it is read out.
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle("failed", failed);
  };

  const later = () => {
    clearTimeout(timer);
    if (!paused) timer = setTimeout(refresh, interval);
  };

  // Nothing is taken away from under somebody who is marking text.
  const isMarking = () => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed;
  };

  const keyed = (root, selector) =>
    new Map([...root.querySelectorAll(selector)].map((one) => [one.dataset.key, one]));

  const swap = (fresh) => {
    const old = document.querySelector("main");
    const main = document.adoptNode(fresh.querySelector("main"));
    const { scrollX, scrollY } = window;
    const open = keyed(old, "details[open]");
    const scrolled = keyed(old, ".scroller");
    const focused = document.activeElement?.closest("details")?.dataset.key;
    old.replaceWith(main);
    for (const [key, one] of keyed(main, "details")) {
      one.open = open.has(key);
      if (key === focused) one.querySelector("summary").focus({ preventScroll: true });
    }
    for (const [key, one] of keyed(main, ".scroller")) one.scrollLeft = scrolled.get(key)?.scrollLeft ?? 0;
    window.scrollTo(scrollX, scrollY);
    document.title = fresh.title;
  };

  const refresh = async () => {
    if (document.hidden || isMarking()) return later();
    try {
      // Not location.href: it may carry a name and a password, which fetch refuses.
      const address = location.origin + location.pathname + location.search;
      const answer = await fetch(address, {
        cache: "no-store",
        headers: { Accept: "text/html" },
        signal: AbortSignal.timeout(Math.max(interval, 10000)),
      });
      if (!answer.ok) throw new Error(`it answered ${answer.status}`);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!paused) swap(fresh);
      say(paused ? "paused" : usual, false);
    } catch (error) {
      const why = error.message.startsWith("it answered") ? error.message : "it does not answer";
      say(`not refreshed: ${why}; trying again`, true);
    }
    return later();
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    if (paused) {
      clearTimeout(timer);
      say("paused", false);
    } else {
      say(usual, false);
      refresh();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !paused) {
      clearTimeout(timer);
      refresh();
    }
  });
  later();
})();
