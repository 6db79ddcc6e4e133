// Renews the page without closing what is open and without moving focus or scroll; says so if it could not.
//
// It fetches its own address, which need not be "/": a reverse proxy may serve the exporter below a path. An answer that
// is not this page, such as a login page, is not shown. The address is composed because browsers refuse to fetch one that
// contains a user and a password.
const page = document.documentElement.dataset;
setInterval(async () => {
  if (document.hidden) return;
  try {
    const own = location.origin + location.pathname + location.search;
    const answer = await fetch(own, {cache: 'no-store', signal: AbortSignal.timeout(page.patience * 1000)});
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    if (!answer.ok || fresh.documentElement.dataset.page !== page.page) throw 0;
    const open = [...document.querySelectorAll('details[open]')].map(part => part.id);
    const focus = document.activeElement.id;
    for (const part of ['header', 'main', 'footer'])
      document.querySelector(part).replaceWith(fresh.querySelector(part));
    for (const id of open) document.getElementById(id)?.setAttribute('open', '');
    if (focus) document.getElementById(focus)?.focus({preventScroll: true});
    document.title = fresh.title;
  } catch { document.getElementById('away').hidden = false; }
}, page.refresh * 1000);
