// Sets the saved colour theme before the first paint. It is no module, because
// modules run later.
(function () {
  'use strict';
  var choice = null;
  try {
    choice = localStorage.getItem('helix-theme');
  } catch { /* storage may be forbidden */ }
  if (choice === 'dark' || choice === 'light') {
    document.documentElement.dataset.theme = choice;
  }
})();
