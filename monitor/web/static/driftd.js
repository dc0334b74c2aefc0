// Keeps an open page fresh: once a minute while somebody looks, and at once when they look again. Text that is selected
// stays as it is; the focus and what was unfolded survive. A page that could not be refreshed says so.
const EVERY = 60000;
let fresh = Date.now();

async function refresh() {
  if (document.hidden || String(getSelection())) return;
  const reply = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  const html = reply && reply.ok ? await reply.text().catch(() => null) : null;
  if (html === null) return warn(reply);
  const page = new DOMParser().parseFromString(html, "text/html");
  const focused = document.activeElement?.getAttribute("href");
  const open = [...document.querySelectorAll("details")].map((part) => part.open);
  for (const part of ["main", "footer"]) document.querySelector(part).replaceWith(page.querySelector(part));
  document.title = page.title;
  document.querySelectorAll("details").forEach((part, i) => (part.open = Boolean(open[i])));
  const same = focused && [...document.querySelectorAll("main a")].find((a) => a.getAttribute("href") === focused);
  if (same) same.focus({ preventScroll: true });
  fresh = Date.now();
}

function warn(reply) {
  const line = document.querySelector("footer .stale") ?? document.createElement("p");
  line.className = "stale";
  line.setAttribute("role", "status");
  line.textContent = `Not refreshed: ${reply ? `driftd answered ${reply.status}` : "driftd does not answer"}.`;
  document.querySelector("footer").prepend(line);
}

setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && Date.now() - fresh >= EVERY) refresh();
});
