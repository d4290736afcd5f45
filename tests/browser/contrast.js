// Every visible text whose contrast with what lies behind it is under 4.5 (3 for large text), as [ratio, text].
() => {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((value, index) => value * a + under[index] * (1 - a));
  const behind = (element) => {
    const own = element ? channels(getComputedStyle(element).backgroundColor) : [255, 255, 255];
    return own[3] === undefined || own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => color.map(linear).reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!(text || element.placeholder || element.matches("svg")) || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const front = over(channels(style.color), back);
    const [light, dark] = [luminance(front), luminance(back)].sort((one, other) => other - one);
    const needed = element.matches("svg") || parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < needed) found.push([ratio.toFixed(2), text || element.outerHTML.slice(0, 60)]);
  }
  return found;
}
