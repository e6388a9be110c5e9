"""A Hugging Face model's answer to a chat prompt, one token long: python -m benchmarks.first_token FOLDER PROMPT"""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    folder, prompt = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    messages = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**asked, max_new_tokens=1, do_sample=False)
    print(tokenizer.decode(answer[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    main()
