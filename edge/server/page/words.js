// Every word of the page, in English and Chinese.

const TABLE = {
  answer: ["Answer", "回答"],
  answerFinished: ["Answer: {text}", "回答：{text}"],
  cancel: ["Cancel", "取消"],
  conversation: ["Conversation", "对话内容"],
  conversations: ["Conversations", "对话列表"],
  copied: ["Copied", "已复制"],
  copy: ["Copy", "复制"],
  copyCode: ["Copy code", "复制代码"],
  delete: ["Delete", "删除"],
  deleteQuestion: ["Delete “{title}”? It cannot be brought back.", "删除“{title}”？删除后无法恢复。"],
  edit: ["Edit", "编辑"],
  editQuestion: ["Edit the question", "编辑问题"],
  exportFile: ["Save as a file", "导出为文件"],
  finishLength: ["stopped at the token limit", "已达到长度上限"],
  finishStopped: ["stopped", "已停止"],
  import: ["Open a saved chat", "导入对话"],
  importFailed: ["This file holds no chat.", "该文件不是有效的对话文件。"],
  keyLabel: ["API key of this server", "此服务器的 API 密钥"],
  keyTitle: ["A key is needed", "需要密钥"],
  language: ["Language", "语言"],
  languageAuto: ["As the browser", "跟随浏览器"],
  languageOther: ["中文", "English"],
  maxTokens: ["Longest answer (tokens)", "回答长度上限（token）"],
  menu: ["Open the list of chats", "打开对话列表"],
  modelsOwn: ["The model’s own", "使用模型默认值"],
  newChat: ["New chat", "新对话"],
  notKept: ["The browser keeps nothing more: chats are gone when this page closes.", "浏览器无法再保存数据，关闭页面后对话将丢失。"],
  off: ["Off", "关闭"],
  on: ["On", "开启"],
  prefill: ["Reading the question: {percent} %", "正在读取问题：{percent}%"],
  problemBusy: ["The server is busy.", "服务器繁忙，请稍候。"],
  problemContext: ["This chat is longer than the model can read. Start a new one.", "对话超出了模型的上下文长度，请新建对话。"],
  problemCut: ["The connection was cut.", "连接已中断。"],
  problemKey: ["The server wants another key.", "密钥不正确。"],
  problemServer: ["The server could not answer.", "服务器无法回答。"],
  question: ["Your question", "您的问题"],
  questionHint: ["Ask anything", "输入您的问题"],
  queue: ["In the queue: {ahead} before you", "排队中：前面还有 {ahead} 位"],
  queueNext: ["You are next", "下一位就是您"],
  reading: ["Reading the question", "正在读取问题"],
  regenerate: ["Answer again", "重新回答"],
  rename: ["Rename", "重命名"],
  retry: ["Try again", "重试"],
  retryIn: ["Try again in {seconds} s", "{seconds} 秒后可重试"],
  save: ["Save", "保存"],
  send: ["Send", "发送"],
  settings: ["Settings", "设置"],
  settingsHint: ["An empty field leaves it to the model.", "留空则使用模型默认值。"],
  skip: ["Skip to the question", "跳到输入框"],
  startAgain: ["Start again", "重新开始"],
  statsCached: ["{cached} of {prompt} prompt tokens from the cache", "提示词 {prompt} token，其中缓存 {cached}"],
  statsFirst: ["first token after {seconds} s", "首 token {seconds} 秒"],
  statsPrompt: ["{prompt} prompt tokens", "提示词 {prompt} token"],
  statsSpeed: ["{speed} tokens/s", "{speed} token/秒"],
  statsTokens: ["{tokens} tokens", "{tokens} token"],
  stop: ["Stop", "停止"],
  system: ["System prompt", "系统提示词"],
  temperature: ["Temperature", "温度（temperature）"],
  theme: ["Appearance", "外观"],
  themeDark: ["Dark", "深色"],
  themeLight: ["Light", "浅色"],
  themeSystem: ["As the system", "跟随系统"],
  thinking: ["Thinking", "思考"],
  thinkingDone: ["Thought for {seconds} s", "已思考 {seconds} 秒"],
  thinkingNow: ["Thinking…", "思考中…"],
  thoughts: ["Thoughts", "思考过程"],
  title: ["Title", "标题"],
  toEnd: ["To the end", "回到底部"],
  toolCall: ["Tool call: {name}", "工具调用：{name}"],
  topP: ["Top-p", "核采样（top_p）"],
  unreachable: ["The server cannot be reached; trying again.", "无法连接服务器，正在重试。"],
  waiting: ["Waiting for the model…", "等待模型…"],
  waitingLoading: ["The model is loading; your question is sent when it is there.", "模型正在加载，加载完成后将自动发送您的问题。"],
  loading: ["The model is loading…", "模型正在加载…"],
  welcome: ["What would you like to know?", "想了解些什么？"],
  welcomeHint: ["{model} runs on your own machine; nothing is sent elsewhere.", "{model} 在您自己的机器上运行，数据不会发往别处。"],
  you: ["You", "您"],
};

let column = 0;

/** wanted: "en", "zh", or anything else for the browser's own. */
export function chooseLanguage(wanted) {
  const language = wanted === "en" || wanted === "zh" ? wanted : navigator.language;
  column = language.toLowerCase().startsWith("zh") ? 1 : 0;
  document.documentElement.lang = column ? "zh-CN" : "en";
}

export const currentLanguage = () => (column ? "zh" : "en");

export function word(key, values = {}) {
  return TABLE[key][column].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Fills what index.html marks: data-word is the text, data-label the name, data-hint the placeholder. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
  for (const element of root.querySelectorAll("[data-hint]")) element.placeholder = word(element.dataset.hint);
  for (const element of root.querySelectorAll("[data-label]")) {
    const name = word(element.dataset.label);
    element.setAttribute("aria-label", name);
    if (element.matches("button")) element.title = name;
  }
}

/** The language of a text as far as fonts and voices need it; "" where it is not known. */
export function languageOf(text) {
  const sample = text.slice(0, 400);
  const han = sample.match(/\p{Script=Han}/gu)?.length ?? 0;
  if (/[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(sample)) return "ja";
  return han * 8 > sample.length ? "zh-CN" : "";
}
