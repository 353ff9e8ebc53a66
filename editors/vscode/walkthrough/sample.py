"""A small stock book to try midspan in."""


class Item:
    def __init__(self, name, price, count=0):
        self.name = name
        self.price = price
        self.count = count

    def total(self):
        return self.price * self.count


class Inventory:
    def __init__(self):
        self.items = {}

    def add(self, item):
        self.items[item.name] = item

    def value(self):
        result = 0
        for item in self.items.values():
            result += item.total()
        return result

    def cheapest(self):
        """The item of least price."""
